// Molds: started where one is missing, given up where they fail.

#include <algorithm>

#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {

void Lifecycle::ensure_mold(Generation& generation) {
  if (generation.mold || generation.retry_mold_at > world_.now()) return;
  if (phase_ == Phase::stopping) return;
  ipc::MoldOrder order;
  order.generation = generation.number;
  order.load = generation.load;
  order.check_only = check_only_;
  order.settings = generation.settings->to_json();
  Mold mold;
  mold.id = next_id_++;
  mold.generation = generation.key;
  mold.deadline = world_.now() + generation.settings->boot_timeout;
  auto pid = world_.start_mold(mold.id, order);
  if (!pid) {
    generation.retry_mold_at = world_.now() + Millis(1000);
    unstarted_.push_back({std::nullopt, generation.key,
                          Failure{"boot", "no mold: " + pid.error().message(), "", 1}});
    step_again_ = true;
    return;
  }
  mold.pid = *pid;
  mold.oom_kills_before = world_.oom_kills();
  generation.mold = mold.id;
  molds_.emplace(mold.id, std::move(mold));
}

// `workers: auto`, as soon as it is known what a worker may take; a mold that has the application
// tells, even where it is given up for what loading left open.
void Lifecycle::note_fit(Generation& generation, const Mold& mold) {
  if (generation.settings->workers != 0) return;
  generation.fit = std::min(generation.fit, world_.workers_that_fit(mold.pid));
  if (phase_ != Phase::starting || !workers_.empty() || generation.fit >= target_) return;
  log_.info("workers: auto: {} instead of {}, as the memory limit leaves room for no more",
            generation.fit, target_);
  target_ = generation.fit;
}

void Lifecycle::set_log_level(LogLevel level) {
  for (auto& [key, generation] : generations_) {
    Settings settings = *generation.settings;
    settings.log_level = level;
    generation.settings = std::make_shared<const Settings>(std::move(settings));
  }
  for (const auto& [id, mold] : molds_) world_.send_to_mold(id, ipc::SetLogLevel{level});
  for (const auto& [id, worker] : workers_) world_.send(id, ipc::SetLogLevel{level});
}

void Lifecycle::release_mold(MoldId id) {
  const auto it = molds_.find(id);
  if (it == molds_.end() || it->second.state == Mold::State::leaving) return;
  it->second.state = Mold::State::leaving;
  it->second.deadline = world_.now() + kLeaveTime;
  world_.release_mold(id);
  if (Generation* generation = find_generation(it->second.generation)) {
    if (generation->mold == id) generation->mold = 0;
  }
}

// A mold said that it cannot load, or was too slow: its process ends later.
void Lifecycle::mold_failed(Mold& mold, Failure failure) {
  Generation* generation = find_generation(mold.generation);
  if (mold.state == Mold::State::leaving) return;
  const bool loading = mold.state == Mold::State::loading;
  mold.state = Mold::State::leaving;
  if (!generation) return;
  if (generation->mold == mold.id) generation->mold = 0;
  if (phase_ == Phase::stopping) return;
  if (phase_ == Phase::starting && !listening_) return fail_start(failure);
  const Millis pause =
      std::max(jittered(generation->mold_backoff.died(Millis(0), Backoff::Cause::own,
                                                      generation->settings->crash_backoff)),
               Millis(100));
  generation->retry_mold_at = world_.now() + pause;
  Reload* reload = active_reload();
  if (reload && reload->new_generation == generation->key &&
      reload->step != Reload::Step::rolling_back) {
    return fail_reload(*reload, std::move(failure));
  }
  log_.error("generation {}: the mold failed at {}: {}; another starts in {}{}{}",
             generation->number, failure.stage, failure.error, seconds(pause),
             failure.detail.empty() ? "" : "\n", failure.detail);
  tell(EventKind::mold_failed, {{"generation", generation->number},
                                {"stage", failure.stage},
                                {"error", failure.error},
                                {"retry_ms", pause.count()}});
  if (loading) note_failure(failure);
}

void Lifecycle::mold_gone(MoldId id, const std::string& how, std::string last_words) {
  const auto it = molds_.find(id);
  if (it == molds_.end()) return;
  Mold& mold = it->second;
  if (mold.state != Mold::State::leaving) {
    const bool loading = mold.state == Mold::State::loading;
    mold_failed(mold, Failure{"import",
                              loading ? "the mold died while it loaded the application: " + how +
                                            in_parentheses(mold.interpreter)
                                      : "the mold died: " + how,
                              std::move(last_words), 4});
  }
  std::vector<Worker> orphans;
  for (const auto& [worker_id, worker] : workers_) {
    if (worker.mold == id && worker.pid < 0) orphans.push_back(worker);
  }
  world_.release_mold(id);
  molds_.erase(it);
  for (const auto& orphan : orphans) {
    forget(orphan.id);
    worker_gone(orphan, {"its mold died before it was forked", RestartReason::not_forked, true});
  }
}

}  // namespace mgr::manager
