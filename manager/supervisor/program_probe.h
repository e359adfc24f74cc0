#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/loop/event_loop.h"
#include "manager/supervisor/program.h"

namespace mgr::manager {

// A child that executes another program, to see whether that could go on from a copy of the state:
// execve(2) itself has no way back. Ended with this object.
class ProgramProbe {
 public:
  // What the child found: the program's version, or why not, in one line.
  using Done = std::function<void(const Result<std::string>&)>;
  static constexpr std::chrono::milliseconds kPatience{20'000};

  // `loop` must outlive it. `done` is called once, from the loop or from on_exit().
  ProgramProbe(EventLoop& loop, Done done, std::chrono::milliseconds patience = kPatience);
  ~ProgramProbe();
  ProgramProbe(const ProgramProbe&) = delete;

  // Executes `executable`; `state` and `descriptors` stay open in the child. All are borrowed.
  Result<void> start(const Program& program, int executable, int state,
                     const std::vector<int>& descriptors);
  // True where it was this child. `status` as waitpid() gives it.
  bool on_exit(pid_t pid, int status);

 private:
  void read_some();
  Result<std::string> verdict(int status) const;

  Done done_;
  const std::chrono::milliseconds patience_;
  pid_t pid_ = -1;
  bool too_slow_ = false;
  std::string output_;
  UniqueFd pipe_;
  UniqueFd write_end_;
  std::optional<FdWatcher> watcher_;
  Timer timer_;
};

}  // namespace mgr::manager
