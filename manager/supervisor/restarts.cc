#include "manager/supervisor/restarts.h"

#include <fmt/core.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstring>

namespace mgr::manager {

std::string describe_exit(int status) {
  if (WIFSIGNALED(status)) {
    return fmt::format("killed by signal {} ({}){}", WTERMSIG(status), strsignal(WTERMSIG(status)),
                       WCOREDUMP(status) ? ", core dumped" : "");
  }
  return fmt::format("exit status {}", WEXITSTATUS(status));
}

Ending ending_of(int status, std::int64_t oom_kills_before, std::int64_t oom_kills_now) {
  Ending ending{.how = describe_exit(status)};
  ending.clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!WIFSIGNALED(status)) return ending;
  if (WTERMSIG(status) != SIGKILL) {
    ending.reason = RestartReason::signal;
    return ending;
  }
  const bool known = oom_kills_before >= 0 && oom_kills_now >= 0;
  ending.reason =
      known && oom_kills_now > oom_kills_before ? RestartReason::oom : RestartReason::killed;
  ending.outside = oom_kills_now >= 0 && oom_kills_now == oom_kills_before;
  if (ending.reason == RestartReason::oom) {
    ending.how += " by the kernel's OOM killer: out of memory";
  }
  return ending;
}

std::string_view to_string(RestartReason reason) {
  switch (reason) {
    case RestartReason::exit:
      return "exit";
    case RestartReason::signal:
      return "signal";
    case RestartReason::oom:
      return "oom";
    case RestartReason::killed:
      return "killed";
    case RestartReason::not_forked:
      return "not_forked";
    case RestartReason::boot_failed:
      return "boot_failed";
    case RestartReason::boot_timeout:
      return "boot_timeout";
    case RestartReason::graceful_timeout:
      return "graceful_timeout";
    case RestartReason::reload:
      return "reload";
    case RestartReason::restart:
      return "restart";
    case RestartReason::max_requests:
      return "max_requests";
    case RestartReason::max_lifetime:
      return "max_lifetime";
    case RestartReason::max_memory:
      return "max_memory";
    case RestartReason::request_timeout:
      return "request_timeout";
    case RestartReason::timeout:
      return "timeout";
  }
  return "?";
}

}  // namespace mgr::manager
