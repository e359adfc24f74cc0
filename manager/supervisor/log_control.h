#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include "common/base/log.h"
#include "common/loop/event_loop.h"
#include "manager/supervisor/lifecycle.h"
#include "manager/supervisor/log_files.h"
#include "manager/supervisor/process_world.h"

namespace mgr::manager {

// Opens the log files anew (`mgr reopen`, SIGUSR1) and gives them to every mold and worker. Whoever
// has moved the old files away may touch them once it is done: nobody writes there any more.
// The arguments must outlive it.
class LogControl {
 public:
  LogControl(EventLoop& loop, ProcessWorld& world, LogFiles& files, Log& log);

  // `done` comes when everybody has the new files, or after kPatience with how many have not yet
  // (a loop that is blocked). Their error changes nothing.
  void reopen(Done done);
  // That mold or worker has taken the files of this order.
  void taken(std::uint64_t who, std::uint64_t serial);

  static constexpr std::chrono::milliseconds kPatience{2000};

 private:
  void finish();

  ProcessWorld& world_;
  LogFiles& files_;
  Log& log_;
  Timer patience_;
  std::uint64_t serial_ = 0;
  std::set<std::uint64_t> missing_;  // those who have not answered the last order
  std::vector<Done> waiting_;
};

}  // namespace mgr::manager
