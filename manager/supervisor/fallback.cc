#include "manager/supervisor/fallback.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace mgr::manager {
namespace {

constexpr std::array kFatal{SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGALRM};
// A successor takes milliseconds; so much is too long on any machine.
constexpr int kPatience = 5;  // seconds

struct Way {
  std::vector<std::string> arguments;
  std::vector<char*> pointers;
  int before = -1;
  int words = -1;
  volatile sig_atomic_t armed = 0;
};

Way& way() {
  static Way* const made = new Way;  // not destroyed: exit() needs it
  return *made;
}
Way* known_way = nullptr;  // for handlers

void set_alarm(int seconds) {
  itimerval timer{};
  timer.it_value.tv_sec = seconds;
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

// Async-signal-safe.
[[noreturn]] void go_back(const char* why, std::size_t length) {
  Way& back = *known_way;
  back.armed = 0;
  set_alarm(0);
  (void)!::pwrite(back.words, why, length, 0);
  ::fcntl(back.before, F_SETFD, FD_CLOEXEC);
  ::execveat(back.before, "", back.pointers.data(), environ, AT_EMPTY_PATH);
  ::_exit(1);
}

void on_fatal_signal(int signal) {
  if (!known_way || !known_way->armed) ::_exit(1);
  if (signal == SIGALRM) {
    constexpr char kSlow[] = "its loop did not turn within 5 s";
    go_back(kSlow, sizeof kSlow - 1);
  }
  char text[] = "killed by signal 00";
  text[sizeof text - 3] = static_cast<char>('0' + signal / 10);
  text[sizeof text - 2] = static_cast<char>('0' + signal % 10);
  go_back(text, sizeof text - 1);
}

void on_exit_called(int status, void*) {
  if (!known_way || !known_way->armed) return;
  char text[64];
  const int length = std::snprintf(text, sizeof text, "it ended with exit status %d", status);
  go_back(text, static_cast<std::size_t>(length));
}

void set_handlers(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigfillset(&action.sa_mask);
  sigset_t fatal;
  sigemptyset(&fatal);
  for (const int signal : kFatal) {
    sigaddset(&fatal, signal);
    ::sigaction(signal, &action, nullptr);
  }
  ::sigprocmask(SIG_UNBLOCK, &fatal, nullptr);
}

}  // namespace

void Fallback::arm(const Program& program) {
  Way& back = way();
  const Resume& resume = *program.resume();
  back.arguments = program.arguments();
  back.arguments.push_back(
      Resume{Resume::Role::returned, resume.state, -1, resume.words}.argument());
  back.pointers = pointers_to(back.arguments);
  back.before = resume.before;
  back.words = resume.words;
  known_way = &back;
  back.armed = 1;
  set_handlers(on_fatal_signal);
  ::on_exit(on_exit_called, nullptr);
  set_alarm(kPatience);
}

bool Fallback::armed() {
  return known_way && known_way->armed;
}

void Fallback::take(std::string_view why) {
  go_back(why.data(), why.size());
}

void Fallback::disarm() {
  if (!armed()) return;
  known_way->armed = 0;
  set_alarm(0);
  set_handlers(SIG_DFL);
}

}  // namespace mgr::manager
