#include "manager/supervisor/program_probe.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "manager/supervisor/restarts.h"
#include "manager/supervisor/times.h"

namespace mgr::manager {
namespace {

// Of what a child writes, the end is kept.
constexpr std::size_t kMostOutput = 64 * 1024;

void keep_open(int fd) {
  ::fcntl(fd, F_SETFD, ::fcntl(fd, F_GETFD) & ~FD_CLOEXEC);
}

// The child's way from fork to exec: it ends here.
[[noreturn]] void become(const Program& program, int executable, int state,
                         const std::vector<int>& descriptors, int output, pid_t parent) {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  for (const int fd : descriptors) keep_open(fd);
  keep_open(state);
  const int null = ::open("/dev/null", O_RDONLY);
  if (null >= 0) ::dup2(null, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  Resume resume;
  resume.state = state;
  const Error error = program.execute(executable, resume);
  ::dprintf(STDOUT_FILENO, "%s\n", error.message().c_str());
  ::_exit(127);
}

std::string last_line(std::string text) {
  while (!text.empty() && std::strchr("\r\n \t", text.back())) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace

ProgramProbe::ProgramProbe(EventLoop& loop, Done done, std::chrono::milliseconds patience)
    : done_(std::move(done)), patience_(patience), timer_(loop, [this] {
        too_slow_ = true;
        ::kill(pid_, SIGKILL);
      }) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return;
  pipe_.reset(ends[0]);
  write_end_.reset(ends[1]);
  ::fcntl(ends[1], F_SETFL, 0);
  watcher_.emplace(loop, pipe_.get(), [this](int, int) { read_some(); });
}

ProgramProbe::~ProgramProbe() {
  if (pid_ > 0) ::kill(pid_, SIGKILL);
}

Result<void> ProgramProbe::start(const Program& program, int executable, int state,
                                 const std::vector<int>& descriptors) {
  if (!pipe_) return Error("no pipe could be made");
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno("fork");
  if (pid == 0) become(program, executable, state, descriptors, write_end_.get(), parent);
  write_end_.reset();
  pid_ = pid;
  watcher_->start(FdWatcher::kReadable);
  timer_.start(patience_);
  return {};
}

void ProgramProbe::read_some() {
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::read(pipe_.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      if (n == 0) watcher_->stop();
      return;
    }
    output_.append(buffer, static_cast<std::size_t>(n));
    if (output_.size() > kMostOutput) output_.erase(0, output_.size() - kMostOutput);
  }
}

bool ProgramProbe::on_exit(pid_t pid, int status) {
  if (pid != pid_ || pid_ < 0) return false;
  pid_ = -1;
  timer_.stop();
  read_some();
  watcher_->stop();
  const Done done = done_;  // which may end this object
  done(verdict(status));
  return true;
}

Result<std::string> ProgramProbe::verdict(int status) const {
  const std::string line = last_line(output_);
  if (too_slow_) {
    return Error(
        fmt::format("its trial on a copy of the state took longer than {}", seconds(patience_)));
  }
  const bool answered = line.starts_with(kProbeAnswer);
  if (status == 0 && answered) return line.substr(std::strlen(kProbeAnswer));
  if (status == 0) return Error("it does not know how to go on from a saved state");
  const std::string ended = "its trial on a copy of the state ended with " + describe_exit(status);
  return Error(line.empty() || answered ? ended : line + " (" + ended + ")");
}

}  // namespace mgr::manager
