#pragma once

#include <sys/types.h>

#include <chrono>
#include <ctime>

#include "common/base/result.h"

namespace mgr::worker {

// Kills its own process (SIGKILL) when a deadline passes, whatever the process is doing: a worker
// whose loop is blocked sees neither its channel's end nor its timers. Made in the worker, after
// the fork (POSIX timers are not inherited). One at a time in a process.
class LastResort {
 public:
  // Also asks the kernel to tell when `supervisor`, which must be the parent already, dies: then
  // the process has `after_parent` left. False from orphaned() means the parent was still there.
  static Result<LastResort> create(pid_t supervisor, std::chrono::milliseconds after_parent);
  LastResort(LastResort&& other) noexcept;
  LastResort& operator=(LastResort&&) = delete;
  ~LastResort();

  bool orphaned() const { return orphaned_; }
  // Sets the deadline anew.
  void arm(std::chrono::milliseconds delay);

 private:
  LastResort(timer_t timer, bool orphaned) : timer_(timer), orphaned_(orphaned) {}
  timer_t timer_;
  bool owned_ = true;
  bool orphaned_;
};

}  // namespace mgr::worker
