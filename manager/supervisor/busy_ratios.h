#pragma once

#include <cstdint>
#include <map>

#include "common/ipc/scoreboard.h"
#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {

// How busy each worker's loop is, for one who asks now and then. What it reads must outlive it.
class BusyRatios {
 public:
  // 0 to 1: since the last call at least a second ago, else since the worker's start, `age` ago.
  double of(WorkerId worker, const ipc::WorkerRecord& record, Millis age);
  // Forgets workers that are gone.
  void keep(const std::map<WorkerId, Worker>& workers);

 private:
  struct Sample {
    std::uint64_t at_ns;
    std::uint64_t busy_ns;
    double ratio;
  };
  std::map<WorkerId, Sample> samples_;
};

}  // namespace mgr::manager
