// The end of the supervisor, by a stop or by a first start that failed.

#include <algorithm>
#include <utility>

#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {

void Lifecycle::stop(Stop kind) {
  const Generation* generation = find_generation(generation_);
  if (kind == Stop::graceful) {
    if (phase_ == Phase::draining || phase_ == Phase::stopping) return;
    const Millis delay = generation ? generation->settings->drain_delay : Millis(0);
    if (delay.count() > 0 && listening_) {
      log_.info("stopping: readiness fails from now on; requests are served for another {}",
                seconds(delay));
      phase_ = Phase::draining;
      tell(EventKind::stopping, {{"how", "graceful"}});
      stop_deadline_ = world_.now() + delay;
      refuse_all("the supervisor is stopping");
      for (const auto& [id, worker] : workers_) {
        if (worker.state == WorkerState::serving) world_.send(id, ipc::CloseAfterResponse{});
      }
    } else {
      begin_stopping(Stop::graceful);
    }
    return step();
  }
  log_.info("stopping at once{}", listening_ ? ": requests in flight are cut" : "");
  begin_stopping(Stop::quick);
  for (auto& [id, worker] : workers_) {
    world_.send(id, ipc::Quit{});
    worker.deadline = world_.now() + kLeaveTime;
  }
  step();
}

void Lifecycle::terminate() {
  stop(std::exchange(terminated_, true) ? Stop::quick : Stop::graceful);
}

void Lifecycle::begin_stopping(Stop kind) {
  stop_deadline_.reset();
  if (phase_ == Phase::stopping) return;
  if (phase_ != Phase::draining || kind == Stop::quick) {
    tell(EventKind::stopping, {{"how", kind == Stop::graceful ? "graceful" : "quick"}});
  }
  phase_ = Phase::stopping;
  refuse_all("the supervisor is stopping");
  const Generation* generation = find_generation(generation_);
  const Millis graceful = generation ? generation->settings->graceful_timeout : Millis(0);
  if (listening_ && kind == Stop::graceful) {
    log_.info("stopping: requests in flight have {} to finish", seconds(graceful));
  }
  // Those that leave already may wait for idle connections as long as the service goes on.
  for (const auto& [id, worker] : workers_) {
    if (worker.state == WorkerState::draining) world_.send(id, ipc::Drain{true, graceful.count()});
  }
  std::vector<MoldId> molds;
  for (const auto& [id, mold] : molds_) molds.push_back(id);
  std::vector<WorkerId> workers;
  for (const auto& [id, worker] : workers_) workers.push_back(id);
  // Workers first: a mold that leaves must not take the forks on their way with it unnoticed.
  for (const WorkerId id : workers) retire(id);
  for (const MoldId id : molds) release_mold(id);
}

void Lifecycle::fail_start(const Failure& failure) {
  if (phase_ == Phase::stopping || waits_for_change()) return;
  const Generation* generation = find_generation(generation_);
  const bool code = failure.stage != "bind";
  if (code && generation && generation->settings->reload_on_change) return wait_for_change(failure);
  exit_status_ = failure.exit_status;
  last_words_ = fmt::format("cannot start: {}: {}; the supervisor leaves with exit status {}",
                            failure.stage, failure.error, exit_status_);
  if (!failure.detail.empty()) log_.error("{}", failure.detail);
  stop(Stop::quick);  // may end the failure's owner
}

// Nothing of the failed start remains; no mold is started by itself.
void Lifecycle::wait_for_change(const Failure& failure) {
  start_failure_ = failure.stage + ": " + failure.error;
  log_.error("cannot start: {}; the next change is waited for{}{}", start_failure_,
             failure.detail.empty() ? "" : "\n", failure.detail);
  Generation* generation = find_generation(generation_);
  generation->retry_mold_at = Millis::max();
  std::vector<WorkerId> workers;
  for (const auto& [id, worker] : workers_) workers.push_back(id);
  for (const WorkerId id : workers) retire(id);
  if (generation->mold) release_mold(generation->mold);
}

void Lifecycle::start_again(const std::function<Result<Prepared>()>& prepare, const Done& done) {
  auto prepared = prepare();
  if (!prepared) {
    const Failure failure{"configuration", prepared.error().message(), "", 78};
    log_.error("cannot start: {}; the next change is waited for", failure.error);
    return done({.ok = false, .message = "refused", .failure = failure});
  }
  start_failure_.clear();
  Generation* generation = find_generation(generation_);
  generation->settings = prepared->settings;
  generation->load = generation->settings->preload != PreloadMode::off;
  generation->mold_backoff.reset();
  generation->retry_mold_at = Millis(0);
  if (prepared->workers && world_.ensure_slots(*prepared->workers)) target_ = *prepared->workers;
  while (slots_.size() < static_cast<std::size_t>(target_)) {
    slots_.push_back(
        Slot{.index = static_cast<int>(slots_.size()), .wanted_generation = generation_});
  }
  for (auto& slot : slots_) {
    slot.backoff.reset();
    slot.retry_at = Millis(0);
  }
  done({.message = "the start is tried again", .not_applied = prepared->not_applied});
  step();
}

void Lifecycle::finish_if_empty() {
  if (phase_ != Phase::stopping) return;
  if (listening_) {
    const bool all_stopped = std::all_of(workers_.begin(), workers_.end(), [](const auto& entry) {
      return entry.second.stopped_accepting || entry.second.ready_at.count() < 0 ||
             entry.second.state == WorkerState::killed;
    });
    if (all_stopped) {
      listening_ = false;
      world_.stop_listening();
    }
  }
  if (!workers_.empty() || !molds_.empty()) return;
  tell(EventKind::stopped, {{"exit_status", exit_status_}});
  for (auto& callback : std::exchange(on_stopped_, {})) callback();
  if (last_words_.empty()) {
    log_.info("stopped");
  } else {
    log_.error("{}", last_words_);
  }
  world_.leave(exit_status_);
}

}  // namespace mgr::manager
