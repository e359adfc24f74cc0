#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/base/unique_fd.h"
#include "common/loop/event_loop.h"
#include "manager/supervisor/events.h"

namespace mgr::manager {

// Starts the commands of the setting `hooks` when their events happen, and never waits for one.
// Each is a process (/bin/sh -c) in a group of its own, with the event in its environment
// (MGR_EVENT, and MGR_SLOT, MGR_ERROR … for the event's fields). One that fails, or takes longer
// than kPatience and is killed, is one line in the log, with the first line that it wrote.
class Hooks {
 public:
  // Further ones are skipped, which the log says; never `stopped`.
  static constexpr std::size_t kMostRunning = 8;
  static constexpr std::chrono::milliseconds kPatience{10'000};
  static constexpr std::size_t kMostOutput = 4096;  // bytes; the rest is read and forgotten

  // `loop` and `log` must outlive it. Commands that still run when it dies go on, with an alarm(2)
  // a second after their patience.
  Hooks(EventLoop& loop, const Log& log);
  ~Hooks();
  Hooks(const Hooks&) = delete;

  // What every command gets in its environment besides, as NAME, value.
  void set_environment(std::map<std::string, std::string> environment);
  void on_event(const Event& event, const std::map<std::string, std::string>& hooks);
  // False: no command of ours.
  bool on_exit(pid_t pid, int status);

 private:
  class Running;
  void start(const std::string& name, const std::string& command, const Event& event);
  std::vector<std::string> environment_of(const Event& event) const;

  EventLoop& loop_;
  const Log& log_;
  std::map<std::string, std::string> environment_;
  std::map<pid_t, std::unique_ptr<Running>> running_;
};

}  // namespace mgr::manager
