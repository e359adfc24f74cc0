#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "common/ipc/scoreboard.h"
#include "manager/supervisor/busy_ratios.h"
#include "manager/supervisor/lifecycle.h"
#include "manager/supervisor/listeners.h"

namespace mgr::manager {

// What `mgr status` shows, from the book, the listening sockets and the scoreboard.
// Everything it is made with must outlive it.
class Status {
 public:
  Status(std::string name, World& world, const Lifecycle& lifecycle, const Listeners& listeners,
         const ipc::Scoreboard& scoreboard);

  // The object of contract section 5. The busy ratio of a worker is that since the last call at
  // least a second ago, else since its start.
  nlohmann::ordered_json describe();
  // When the service began, in the world's time; that of this object otherwise.
  Millis started() const { return started_; }
  void set_started(Millis started) { started_ = started; }
  // Its `workers` alone.
  nlohmann::ordered_json workers();
  // Its `state`.
  std::string state() const;

 private:
  nlohmann::ordered_json worker(const Slot& slot);
  nlohmann::ordered_json leaving() const;

  std::string name_;
  World& world_;
  const Lifecycle& lifecycle_;
  const Listeners& listeners_;
  const ipc::Scoreboard& scoreboard_;
  Millis started_;
  BusyRatios busy_;
};

}  // namespace mgr::manager
