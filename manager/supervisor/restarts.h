#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace mgr::manager {

// Why a worker had to be replaced, or started again. Workers that leave by a scale or a stop have
// none. The names are labels of a metric: add, but rename nothing.
enum class RestartReason {
  exit,              // ended by itself, with whatever status
  signal,            // a signal that its own doing brought: SIGSEGV, SIGABRT …
  oom,               // SIGKILL, while the kernel's OOM killer was at work
  killed,            // SIGKILL by somebody else
  not_forked,        // its mold could not fork it, or died first
  boot_failed,       // failed, or died, before it was ready
  boot_timeout,      // was not ready within boot_timeout
  graceful_timeout,  // did not leave in time: killed
  reload,            // replaced by another generation, forth or back
  restart,           // replaced by mgr restart
  max_requests,      // replaced because it had served so many requests,
  max_lifetime,      // … lived so long,
  max_memory,        // … or had grown so large
  request_timeout,   // replaced because all of its threads were stuck in requests
  timeout,           // its loop ran one callback for longer than `timeout`
};
inline constexpr std::size_t kRestartReasons = 15;
using RestartCounts = std::array<std::uint64_t, kRestartReasons>;

// How a worker ended: in words, and what would be the reason for another.
struct Ending {
  std::string how;
  RestartReason reason = RestartReason::exit;
  bool outside = false;      // no fault of its own: no back-off
  bool clean = false;        // exit status 0
  std::string last_words{};  // what it wrote when a fatal signal ended it
};

// `status` as waitpid() gives it; `oom_kills_*`: World::oom_kills() before this end (those that
// ended others taken off) and now.
Ending ending_of(int status, std::int64_t oom_kills_before, std::int64_t oom_kills_now);

std::string_view to_string(RestartReason reason);

// "killed by signal 9 (Killed)", "exit status 3".
std::string describe_exit(int status);

}  // namespace mgr::manager
