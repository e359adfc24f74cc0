#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "manager/supervisor/times.h"

namespace mgr::manager {

// What the scoreboard says of a worker's loop at one look.
struct LoopSight {
  std::uint64_t run = 0;  // names the present run of callbacks; 0: the loop waits
  Millis age{0};          // how long ago that run began, stops of the supervisor included
};

// One thread of a worker, as the kernel accounts for it; its counters only grow.
struct ThreadUse {
  pid_t thread = 0;
  char state = '?';  // as in proc(5): 'R' runs or could, 'S', 'D', 'T' stopped, 't' in a debugger
  Millis ran{0};     // time on a CPU
  std::optional<Millis> waited;  // time in which it could have run and had no CPU; none: unknown
};

// The account of one worker's loop: for how long the present run of callbacks has blocked it. What
// does not count is the time in which the supervisor itself was stopped (the clock that `now` is of
// stands still then), in which a thread of the worker waited for a CPU (an overloaded machine, the
// quota of a cgroup: the loop's thread may depend on any other by the GIL), and in which the worker
// was stopped. Pure: clock, scoreboard and /proc are handed in.
class LoopWatch {
 public:
  // A run that lasts longer is a long one: connections should not wait for its end.
  static constexpr Millis kLong{100};

  // To be called at every look.
  void see(Millis now, LoopSight sight);

  bool runs_long() const { return lasts() > kLong; }
  // How long the present run lasts, whatever the reason; 0 while the loop waits.
  Millis lasts() const { return run_ == 0 ? Millis(0) : seen_ - began_; }
  // The last moment at which it is known to have come back from its callbacks; none: never seen.
  std::optional<Millis> turned_at() const {
    if (!ever_seen_) return {};
    return run_ == 0 ? seen_ : began_;
  }

  // The uses of the worker's threads are to be counted now: they cost a few system calls, so it is
  // done only in long runs, and twenty times in `timeout`.
  bool wants_uses(Millis timeout) const;
  // `uses`: of all threads, the loop's first.
  void count(const std::vector<ThreadUse>& uses);

  // Up to the last count().
  Millis blocked() const { return blocked_; }
  Millis excused() const { return excused_; }

 private:
  Millis excuse(const std::vector<ThreadUse>& uses, Millis elapsed) const;

  bool ever_seen_ = false;
  Millis seen_{0};
  std::uint64_t run_ = 0;
  Millis began_{0};
  Millis counted_until_{0};
  Millis blocked_{0};
  Millis excused_{0};
  std::optional<std::vector<ThreadUse>> before_;
};

// How far the escalation has come for a run that blocks a loop.
enum class HangStage {
  none,
  warned,   // half of `timeout` is over: its stack is asked for and logged
  judged,   // it hangs: another is to take its place; its stack is asked for and logged
  aborted,  // it was sent SIGABRT; SIGKILL follows
};

// Where one worker is on that way.
struct Hang {
  HangStage stage = HangStage::none;
  bool dumped = false;  // judged, and its stack is logged, or can't be had
  bool excuse_told = false;
  Millis abort_by{0};  // judged: even if nobody has taken its place
};

}  // namespace mgr::manager
