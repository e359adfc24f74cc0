#include "manager/supervisor/mold_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "common/ipc/inherited.h"
#include "manager/supervisor/privileges.h"

namespace mgr::manager {
namespace {

// Descriptors are first copied above the numbers that they go to, so that no copy overwrites
// another.
constexpr int kAbove = ipc::kFirstFreeFd;

struct Plan {
  int from;
  int to;
};

void default_signals() {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

bool place_descriptors(const std::array<Plan, 5>& plans) {
  std::array<int, 5> copies{};
  for (std::size_t i = 0; i < plans.size(); ++i) {
    copies[i] = plans[i].from < 0 ? -1 : ::fcntl(plans[i].from, F_DUPFD, kAbove);
    if (plans[i].from >= 0 && copies[i] < 0) return false;
  }
  for (std::size_t i = 0; i < plans.size(); ++i) {
    ::close(plans[i].to);
    if (copies[i] >= 0 && ::dup2(copies[i], plans[i].to) < 0) return false;
  }
  ::close_range(ipc::kFirstFreeFd, ~0u, 0);
  return true;
}

// The child's end where it can't become a mold.
[[noreturn]] void give_up(std::string_view stage, std::string_view error) {
  const std::string report =
      ipc::encode(ipc::MoldMessage{ipc::LoadFailed{std::string(stage), std::string(error), 1}});
  ::send(ipc::kChannelFd, report.data(), report.size(), MSG_NOSIGNAL);
  ::_exit(127);
}

// The child's way from fork to exec: it ends here.
[[noreturn]] void become_mold(const MoldStart& start, int settings) {
  default_signals();
  drop_capabilities();
  ::setpgid(0, 0);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) ::dup2(null, 0);
  const std::array<Plan, 5> plans{{{start.channel, ipc::kChannelFd},
                                   {settings, ipc::kSettingsFd},
                                   {start.scoreboard, ipc::kScoreboardFd},
                                   {start.log, ipc::kLogFd},
                                   {start.access_log, ipc::kAccessLogFd}}};
  const bool placed = place_descriptors(plans);
  if (placed && start.account) {
    if (auto became = become(*start.account); !became) {
      give_up("user", became.error().message());
    }
  }
  if (placed) {
    char* const arguments[] = {const_cast<char*>(start.program.c_str()), nullptr};
    ::execv(start.program.c_str(), arguments);
  }
  give_up("exec", start.program + ": " + std::strerror(errno));
}

}  // namespace

Result<pid_t> start_mold_process(const MoldStart& start) {
  auto settings = ipc::sealed_memfd("mgr-mold-order", ipc::encode(*start.order));
  if (!settings) return std::move(settings).error();
  const pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno("fork");
  if (pid == 0) become_mold(start, settings->get());
  ::setpgid(pid, pid);  // both sides set it: whoever comes first
  return pid;
}

std::string libexec_directory() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return "/usr/libexec/mgr";
  return (self.parent_path().parent_path() / "libexec" / "mgr").string();
}

}  // namespace mgr::manager
