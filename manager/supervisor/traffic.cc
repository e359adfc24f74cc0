// Whether clients are wanted: drain and undrain.

#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {

void Lifecycle::set_traffic(Traffic traffic, const Done& done) {
  if (phase_ == Phase::draining || phase_ == Phase::stopping) {
    return done({.ok = false, .message = "refused: the supervisor is stopping"});
  }
  const bool drained = traffic == Traffic::drained;
  if (traffic != traffic_) {
    traffic_ = traffic;
    log_.info("{}", drained
                        ? "drained: readiness fails and connections end behind their responses; "
                          "requests are served"
                        : "undrained: connections are kept open again");
    tell(drained ? EventKind::drained : EventKind::undrained);
    for (const auto& [id, worker] : workers_) {
      if (worker.state != WorkerState::serving && worker.state != WorkerState::held) continue;
      if (drained) {
        world_.send(id, ipc::CloseAfterResponse{});
      } else {
        world_.send(id, ipc::KeepAfterResponse{});
      }
    }
  }
  done({.message = drained ? "drained: requests are served, readiness fails" : "undrained"});
  step();
}

// Also those of a worker that serves from now on.
bool Lifecycle::closes_connections() const {
  return traffic_ == Traffic::drained || phase_ == Phase::draining;
}

}  // namespace mgr::manager
