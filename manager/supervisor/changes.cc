// The changes that somebody asks for: reload, restart, scale, upgrade. One at a time; each is
// advanced by step() until it is done. What they do is to change what is wanted; close_gaps() does
// the rest.

#include <algorithm>

#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {

// ---- the queue

void Lifecycle::reload(std::function<Result<Prepared>()> prepare, Done done,
                       WhileReloading policy) {
  if (phase_ == Phase::draining || phase_ == Phase::stopping) {
    ++reloads_refused_;
    return done({.ok = false, .message = "refused: the supervisor is stopping"});
  }
  if (waits_for_change()) return start_again(prepare, done);
  for (const auto& change : changes_) {
    const auto* other = std::get_if<Reload>(&change);
    if (!other) continue;
    if (policy == WhileReloading::refuse) {
      ++reloads_refused_;
      return done({.ok = false, .conflict = true, .message = "refused: a reload is under way"});
    }
    // One that has not begun reads everything when its turn comes.
    if (!other->begun) {
      return done({.conflict = true, .message = "a reload that waits already takes it in"});
    }
    log_.info("a reload is under way; another follows it");
  }
  Reload reload;
  reload.prepare = std::move(prepare);
  reload.done = std::move(done);
  changes_.emplace_back(std::move(reload));
  step();
}

void Lifecycle::restart(std::vector<int> slots, Done done) {
  if (phase_ == Phase::draining || phase_ == Phase::stopping) {
    return done({.ok = false, .message = "refused: the supervisor is stopping"});
  }
  Restart restart;
  restart.slots = std::move(slots);
  restart.done = std::move(done);
  changes_.emplace_back(std::move(restart));
  step();
}

void Lifecycle::scale(std::variant<ScaleTo, ScaleBy> by, Done done) {
  if (phase_ == Phase::draining || phase_ == Phase::stopping) {
    return done({.ok = false, .message = "refused: the supervisor is stopping"});
  }
  Scale scale;
  std::visit([&](auto change) { scale.by = change; }, by);
  scale.done = std::move(done);
  changes_.emplace_back(std::move(scale));
  step();
}

void Lifecycle::dismiss(Done done) {
  if (phase_ == Phase::draining || phase_ == Phase::stopping) {
    return done({.ok = false, .message = "refused: the supervisor is stopping"});
  }
  Scale scale;
  scale.by = Dismiss{};
  scale.done = std::move(done);
  changes_.emplace_back(std::move(scale));
  step();
}

void Lifecycle::advance_changes() {
  while (!changes_.empty() && phase_ == Phase::running) {
    const bool finished =
        std::visit([this](auto& change) { return change.begun ? advance(change) : begin(change); },
                   changes_.front());
    if (!finished) return;
    changes_.pop_front();
    // Before whatever waits: that was asked for when the new settings were already there.
    if (const auto target = std::exchange(target_of_reload_, std::nullopt)) {
      Scale scale;
      scale.by = ScaleTo{*target};
      scale.done = [](const Outcome&) {};
      scale.of_settings = true;
      changes_.emplace_front(std::move(scale));
    }
  }
}

void Lifecycle::refuse_all(const std::string& why) {
  auto changes = std::exchange(changes_, {});
  for (auto& change : changes) {
    if (std::holds_alternative<Reload>(change)) ++reloads_refused_;
    std::visit([&](auto& c) { c.done({.ok = false, .message = "interrupted: " + why}); }, change);
  }
}

Lifecycle::Reload* Lifecycle::active_reload() {
  if (changes_.empty()) return nullptr;
  auto* reload = std::get_if<Reload>(&changes_.front());
  return reload && reload->begun ? reload : nullptr;
}

const Lifecycle::Reload* Lifecycle::active_reload() const {
  return const_cast<Lifecycle*>(this)->active_reload();
}

bool Lifecycle::reloading() const {
  return active_reload() != nullptr;
}

// ---- reload

bool Lifecycle::begin(Reload& reload) {
  reload.begun = true;
  reload.began = world_.now();
  auto prepared = reload.prepare();
  if (!prepared) {
    Failure failure{"configuration", prepared.error().message(), "", 78};
    log_.error("reload refused: {}; the running generation serves on", failure.error);
    tell(EventKind::reload_refused, {{"stage", failure.stage}, {"error", failure.error}});
    last_reload_ = LastReload{false, failure, Millis(0)};
    ++reloads_refused_;
    reload.done({.ok = false, .message = "refused", .failure = failure});
    return true;
  }
  reload.prepared = std::move(*prepared);
  for (const auto& name : reload.prepared.not_applied) {
    log_.warning("{} has changed, but a reload can't apply it: it needs a restart of mgr", name);
  }
  const Generation* old = generation();
  Generation fresh;
  fresh.key = next_key_++;
  fresh.number = (old ? old->number : 0) + 1;
  fresh.settings = reload.prepared.settings;
  fresh.load = fresh.settings->preload != PreloadMode::off;
  reload.old_generation = generation_;
  reload.new_generation = fresh.key;
  reload.epoch = next_epoch_++;
  log_.info("reload: loading generation {}; generation {} serves on", fresh.number,
            old ? old->number : 0);
  tell(EventKind::reload_begun, {{"generation", fresh.number}});
  const int key = fresh.key;
  generations_.emplace(key, std::move(fresh));
  ensure_mold(*find_generation(key));
  return false;
}

// True when the reload is over.
bool Lifecycle::advance(Reload& reload) {
  switch (reload.step) {
    case Reload::Step::loading: {
      Generation* fresh = find_generation(reload.new_generation);
      const auto mold = molds_.find(fresh->mold);
      if (mold == molds_.end()) {
        ensure_mold(*fresh);
      } else if (mold->second.state == Mold::State::ready) {
        if (reload.prepared.workers && fresh->settings->workers == 0) {
          reload.prepared.workers = std::min(*reload.prepared.workers, fresh->fit);
        }
        // The first worker proves itself without sockets, beside the one that serves its slot.
        reload.first = start_worker(0, reload.new_generation, reload.epoch);
        if (reload.first) reload.step = Reload::Step::probation;
      }
      return false;
    }
    case Reload::Step::probation: {
      const Worker* first = worker(reload.first);
      if (!first || first->ready_at.count() < 0) return false;
      const Millis proven = first->ready_at + reload.prepared.settings->min_ready;
      if (world_.now() < proven || !turned_since(*first, proven)) return false;
      Slot& slot = slots_.front();
      slot.wanted_epoch = reload.epoch;
      slot.wanted_generation = reload.new_generation;
      slot.backoff.reset();
      slot.retry_at = Millis(0);
      (slot.current ? slot.successor : slot.current) = reload.first;
      reload.batch = {0};
      reload.next_slot = 1;
      reload.step = Reload::Step::replacing;
      if (target_ == 0) take_slots(reload);
      return false;
    }
    case Reload::Step::replacing: {
      const bool replaced = std::all_of(reload.batch.begin(), reload.batch.end(), [&](int index) {
        return settled_on(slots_[static_cast<std::size_t>(index)], reload.epoch);
      });
      if (replaced) next_batch(reload);
      return false;
    }
    case Reload::Step::settling:
      if (world_.now() < reload.settle_until || !all_turned_since(reload.settle_until)) {
        return false;
      }
      finish_reload(reload);
      return true;
    case Reload::Step::rolling_back:
      return finish_rollback(reload);
  }
  return false;
}

bool Lifecycle::all_turned_since(Millis moment) const {
  return std::all_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
    const Worker* current = slot.index < target_ ? worker(slot.current) : nullptr;
    return !current || turned_since(*current, moment);
  });
}

// All of those that a dismissal left: nobody serves in them who could be replaced.
void Lifecycle::take_slots(Reload& reload) {
  target_ = dismissed_;
  for (auto& slot : slots_) {
    if (slot.index >= target_) continue;
    slot.wanted_epoch = reload.epoch;
    slot.wanted_generation = reload.new_generation;
    slot.backoff.reset();
    slot.retry_at = Millis(0);
  }
}

void Lifecycle::next_batch(Reload& reload) {
  reload.batch.clear();
  const auto end = std::min(static_cast<std::size_t>(target_), reload.next_slot + batch_size());
  for (; reload.next_slot < end; ++reload.next_slot) {
    Slot& slot = slots_[reload.next_slot];
    slot.wanted_epoch = reload.epoch;
    slot.wanted_generation = reload.new_generation;
    slot.backoff.reset();
    slot.retry_at = Millis(0);
    reload.batch.push_back(slot.index);
  }
  if (reload.batch.empty()) {
    reload.step = Reload::Step::settling;
    reload.settle_until = world_.now() + reload.prepared.settings->min_ready;
  }
}

void Lifecycle::finish_reload(Reload& reload) {
  generation_ = reload.new_generation;
  const Generation* fresh = generation();
  for (auto& slot : slots_) {
    if (slot.held) retire(slot.held);
    slot.held = 0;
    slot.wanted_generation = generation_;
    if (slot.index >= target_) slot.wanted_epoch = reload.epoch;
  }
  drop_generation(reload.old_generation);
  ++reloads_;
  const Millis took = world_.now() - reload.began;
  last_reload_ = LastReload{true, std::nullopt, took};
  log_.info("reload finished: generation {} serves, after {} ms", fresh->number, took.count());
  tell(EventKind::reload_finished, {{"generation", fresh->number}, {"duration_ms", took.count()}});
  Outcome outcome{.message = fmt::format("generation {} serves", fresh->number)};
  outcome.not_applied = reload.prepared.not_applied;
  if (reload.prepared.workers) {
    scaled_ = false;
    if (*reload.prepared.workers != target_) target_of_reload_ = reload.prepared.workers;
  }
  reload.done(outcome);
}

// Anything failed before the reload is final: the finished slots go back, the rest stay as they
// are.
void Lifecycle::fail_reload(Reload& reload, Failure failure) {
  if (reload.step == Reload::Step::rolling_back) return;
  const Generation* fresh = find_generation(reload.new_generation);
  const Generation* old = find_generation(reload.old_generation);
  log_.error("reload of generation {} failed at {}: {}; generation {} serves on{}{}", fresh->number,
             failure.stage, failure.error, old->number, failure.detail.empty() ? "" : "\n",
             failure.detail);
  reload.failure = std::move(failure);
  reload.step = Reload::Step::rolling_back;
  retire(reload.first);
  const std::uint64_t back = next_epoch_++;
  for (auto& slot : slots_) {
    if (slot.wanted_epoch != reload.epoch || slot.index >= target_) continue;
    slot.wanted_generation = reload.old_generation;
    slot.backoff.reset();
    slot.retry_at = Millis(0);
    const Worker* current = worker(slot.current);
    const Worker* held = worker(slot.held);
    if (held && held->state == WorkerState::held) {
      const WorkerId replaced = slot.current;
      slot.current = std::exchange(slot.held, 0);
      slot.wanted_epoch = held->epoch;
      find(slot.current)->replaced_by.reset();
      apply(*find(slot.current), WorkerEvent::serve);
      assign_sockets();
      if (Worker* back = find(replaced)) back->replaced_by = RestartReason::reload;
      if (replaced) retire(replaced);
    } else if (current && current->epoch != reload.epoch) {
      slot.wanted_epoch = current->epoch;  // not replaced yet
    } else {
      slot.wanted_epoch = back;  // a worker from the old mold replaces it
    }
    if (slot.successor) retire(std::exchange(slot.successor, 0));
  }
  step_again_ = true;
}

// There is one generation again, or a slot that can't come back is in its crash loop.
bool Lifecycle::finish_rollback(Reload& reload) {
  const Generation* old = generation();
  // Its mold has died meanwhile and can't be loaded again: the code on the disk is the bad one. A
  // slot whose new worker serves goes on with it until that code is mended.
  const bool no_mold = old->mold == 0 && old->mold_backoff.early_deaths() > 1;
  for (const auto& slot : slots_) {
    if (slot.index >= target_) continue;
    const bool back = settled_on(slot, slot.wanted_epoch) || slot.backoff.early_deaths() > 1 ||
                      (no_mold && !worker(slot.current));
    if (!back) return false;
  }
  const Generation* failed = find_generation(reload.new_generation);
  tell(EventKind::reload_rolled_back, {{"generation", failed ? failed->number : 0},
                                       {"stage", reload.failure->stage},
                                       {"error", reload.failure->error}});
  drop_generation(reload.new_generation);
  ++reloads_rolled_back_;
  last_reload_ = LastReload{false, reload.failure, world_.now() - reload.began};
  Outcome outcome{.ok = false,
                  .message = fmt::format("rolled back: generation {} serves", old->number),
                  .failure = reload.failure};
  outcome.not_applied = reload.prepared.not_applied;
  reload.done(outcome);
  return true;
}

// Lets go of a generation that no slot wants any more. Its workers are leaving already; their
// settings are not needed again.
void Lifecycle::drop_generation(int key) {
  const Generation* generation = find_generation(key);
  if (!generation) return;
  std::vector<WorkerId> leaving;
  for (const auto& [id, worker] : workers_) {
    if (worker.generation == key) leaving.push_back(id);
  }
  for (const WorkerId id : leaving) retire(id);
  if (generation->mold) release_mold(generation->mold);
  generations_.erase(key);
}

// ---- restart

bool Lifecycle::begin(Restart& restart) {
  restart.begun = true;
  if (target_ == 0) {
    restart.done({.ok = false, .message = fmt::format("refused: {}", kSentAway)});
    return true;
  }
  if (restart.slots.empty()) {
    for (int i = 0; i < target_; ++i) restart.slots.push_back(i);
  }
  for (const int index : restart.slots) {
    if (index >= 0 && index < target_) continue;
    restart.done(
        {.ok = false,
         .message = fmt::format("no slot {}: active slots are 0 to {}", index, target_ - 1)});
    return true;
  }
  std::sort(restart.slots.begin(), restart.slots.end());
  restart.slots.erase(std::unique(restart.slots.begin(), restart.slots.end()), restart.slots.end());
  restart.epoch = next_epoch_++;
  log_.info("restart: replacing {} worker{}", restart.slots.size(),
            restart.slots.size() == 1 ? "" : "s");
  tell(EventKind::restart_begun, {{"slots", restart.slots}});
  return advance(restart);
}

bool Lifecycle::advance(Restart& restart) {
  if (restart.failure) {
    for (const int index : restart.slots) {
      Slot& slot = slots_[static_cast<std::size_t>(index)];
      const Worker* current = worker(slot.current);
      if (slot.wanted_epoch == restart.epoch && current) slot.wanted_epoch = current->epoch;
    }
    tell(EventKind::restart_finished, {{"ok", false}});
    restart.done({.ok = false,
                  .message = "stopped: a new worker did not become ready; the others serve on",
                  .failure = restart.failure});
    return true;
  }
  const bool replaced = std::all_of(restart.batch.begin(), restart.batch.end(), [&](int index) {
    return settled_on(slots_[static_cast<std::size_t>(index)], restart.epoch);
  });
  if (!replaced) return false;
  restart.batch.clear();
  const auto end = std::min(restart.slots.size(), restart.next_slot + batch_size());
  for (; restart.next_slot < end; ++restart.next_slot) {
    Slot& slot = slots_[static_cast<std::size_t>(restart.slots[restart.next_slot])];
    slot.wanted_epoch = restart.epoch;
    slot.retry_at = Millis(0);
    restart.batch.push_back(slot.index);
  }
  if (!restart.batch.empty()) return false;
  tell(EventKind::restart_finished, {{"ok", true}});
  restart.done({.message = fmt::format("{} worker{} replaced", restart.slots.size(),
                                       restart.slots.size() == 1 ? "" : "s")});
  return true;
}

// ---- scale

bool Lifecycle::begin(Scale& scale) {
  scale.begun = true;
  scale.from = target_;
  if (const auto* to = std::get_if<ScaleTo>(&scale.by)) {
    scale.to = to->workers;
  } else if (const auto* by = std::get_if<ScaleBy>(&scale.by)) {
    scale.to = target_ + by->change;
  } else if (target_ > 0) {
    dismissed_ = target_;
  }
  const bool dismiss = std::holds_alternative<Dismiss>(scale.by);
  if (!dismiss && target_ == 0 && scale.to < 1) {
    scale.done({.ok = false, .message = fmt::format("refused: {}", kSentAway)});
    return true;
  }
  if (!dismiss && (scale.to < 1 || scale.to > 512)) {
    scale.done({.ok = false,
                .message = fmt::format("refused: {} workers; allowed are 1 to 512", scale.to)});
    return true;
  }
  if (auto made = world_.ensure_slots(scale.to); !made) {
    scale.done({.ok = false, .message = "refused: " + made.error().message()});
    return true;
  }
  log_.info("scale: {} to {} workers", scale.from, scale.to);
  tell(EventKind::scaled, {{"from", scale.from}, {"to", scale.to}});
  target_ = scale.to;
  if (!dismiss) scaled_ = !scale.of_settings;
  while (slots_.size() < static_cast<std::size_t>(target_)) {
    slots_.push_back(Slot{.index = static_cast<int>(slots_.size())});
  }
  for (int i = scale.from; i < scale.to; ++i) {
    Slot& slot = slots_[static_cast<std::size_t>(i)];
    slot.wanted_generation = generation_;
    slot.backoff.reset();
    slot.retry_at = Millis(0);
  }
  for (int i = scale.to; i < scale.from; ++i) {
    const Slot& slot = slots_[static_cast<std::size_t>(i)];
    if (slot.current) scale.leaving.insert(slot.current);
  }
  // Neighbours watch the parked sockets before their workers stop.
  assign_sockets();
  step_again_ = true;
  return false;
}

bool Lifecycle::advance(Scale& scale) {
  for (int i = scale.from; i < scale.to; ++i) {
    const Slot& slot = slots_[static_cast<std::size_t>(i)];
    if (serving(slot)) continue;
    if (!scale.failure) return false;
    scale.done({.ok = false,
                .message = fmt::format("not reached: worker {} did not become ready; it is tried "
                                       "again, {} workers are wanted",
                                       i, target_),
                .failure = scale.failure});
    return true;
  }
  for (const WorkerId id : scale.leaving) {
    const Worker* worker = this->worker(id);
    const bool accepts = worker && !worker->stopped_accepting && worker->ready_at.count() >= 0 &&
                         worker->state != WorkerState::killed;
    if (accepts) return false;
  }
  scale.done({.message = fmt::format("{} worker{}", target_, target_ == 1 ? "" : "s")});
  return true;
}

// ---- upgrade

void Lifecycle::upgrade(std::function<void()> begin, Done done) {
  if (phase_ == Phase::draining || phase_ == Phase::stopping) {
    return done({.ok = false, .message = "refused: the supervisor is stopping"});
  }
  for (const auto& change : changes_) {
    if (std::holds_alternative<Upgrade>(change)) {
      return done({.ok = false, .conflict = true, .message = "refused: an upgrade is under way"});
    }
  }
  Upgrade upgrade;
  upgrade.prepare = std::move(begin);
  upgrade.done = std::move(done);
  changes_.emplace_back(std::move(upgrade));
  step();
}

bool Lifecycle::begin(Upgrade& upgrade) {
  upgrade.begun = true;
  const auto prepare = upgrade.prepare;
  prepare();
  return advance(upgrade);
}

bool Lifecycle::advance(Upgrade& upgrade) {
  if (!upgrade.failed) return false;
  upgrade.done(*upgrade.failed);
  return true;
}

void Lifecycle::upgrade_failed(const Outcome& outcome) {
  if (changes_.empty()) return;
  auto* upgrade = std::get_if<Upgrade>(&changes_.front());
  if (!upgrade || !upgrade->begun) return;
  upgrade->failed = outcome;
  step();
}

bool Lifecycle::upgrade_may_go_on() {
  if (phase_ != Phase::running || changes_.empty()) return false;
  auto* upgrade = std::get_if<Upgrade>(&changes_.front());
  if (!upgrade || !upgrade->begun) return false;
  if (changes_.size() == 1) return true;
  upgrade->begun = false;
  std::rotate(changes_.begin(), changes_.begin() + 1, changes_.end());
  step();
  return false;
}

// ---- what went wrong with a worker or a mold, for the change under way

// No worker can be started until another mold loads: a scale or a restart does not wait for that.
void Lifecycle::note_failure(const Failure& of_a_mold) {
  if (changes_.empty()) return;
  if (auto* restart = std::get_if<Restart>(&changes_.front()); restart && restart->begun) {
    restart->failure = of_a_mold;
  } else if (auto* scale = std::get_if<Scale>(&changes_.front()); scale && scale->begun) {
    scale->failure = of_a_mold;
  }
}

void Lifecycle::note_failure(const Worker& worker, const Failure& failure) {
  if (changes_.empty()) return;
  if (auto* reload = std::get_if<Reload>(&changes_.front()); reload && reload->begun) {
    if (worker.epoch == reload->epoch) fail_reload(*reload, failure);
  } else if (auto* restart = std::get_if<Restart>(&changes_.front()); restart && restart->begun) {
    if (worker.epoch == restart->epoch) restart->failure = failure;
  } else if (auto* scale = std::get_if<Scale>(&changes_.front()); scale && scale->begun) {
    const bool first = worker.slot >= scale->from && worker.slot < scale->to && !scale->failure;
    if (first) scale->failure = failure;
  }
}

}  // namespace mgr::manager
