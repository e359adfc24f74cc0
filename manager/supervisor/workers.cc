// One worker of the book: its start, what its transitions do, its end.

#include <signal.h>

#include <algorithm>

#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {

WorkerId Lifecycle::start_worker(int slot, int generation_key, std::uint64_t epoch) {
  Generation* generation = find_generation(generation_key);
  if (!generation) return 0;
  const auto mold = molds_.find(generation->mold);
  if (mold == molds_.end() || mold->second.state != Mold::State::ready) {
    ensure_mold(*generation);
    return 0;
  }
  Worker worker;
  worker.record = world_.take_record();
  worker.id = next_id_++;
  worker.slot = slot;
  worker.generation = generation_key;
  worker.number = generation->number;
  worker.mold = generation->mold;
  worker.epoch = epoch;
  worker.started = world_.now();
  worker.deadline = world_.now() + generation->settings->boot_timeout;
  worker.oom_kills_before = world_.oom_kills();
  worker.limits = recycle_limits(*generation->settings,
                                 [this](std::uint64_t most) { return world_.random(most); });
  const ipc::Fork order{worker.id, slot, worker.record, worker.limits.requests};
  const Result<void> asked = worker.record < 0 ? Error("no record of the scoreboard is free")
                                               : world_.fork_worker(generation->mold, order);
  if (!asked) {
    if (worker.record >= 0) world_.return_record(worker.record);
    not_started(std::move(worker), *generation, asked.error().message());
    return 0;
  }
  const WorkerId id = worker.id;
  workers_.emplace(id, std::move(worker));
  return id;
}

// For want of descriptors, say: as a start that has failed, but that there is no process.
void Lifecycle::not_started(Worker worker, const Generation& generation, const std::string& why) {
  Slot& slot = slots_[static_cast<std::size_t>(worker.slot)];
  const Millis pause =
      std::max(Millis(1000), jittered(slot.backoff.died(Millis(0), Backoff::Cause::own,
                                                        generation.settings->crash_backoff)));
  slot.retry_at = world_.now() + pause;
  slot.last_exit = "not started: " + why;
  Failure failure{"boot", fmt::format("worker {} could not be started: {}", worker.slot, why), "",
                  1};
  unstarted_.push_back({std::move(worker), 0, std::move(failure)});
  step_again_ = true;
}

// Said between two rounds of a step: it may end the change that asked for the start.
void Lifecycle::tell_unstarted() {
  for (const Unstarted& one : std::exchange(unstarted_, {})) {
    if (phase_ == Phase::stopping) return;
    if (phase_ == Phase::starting && !listening_) return fail_start(one.failure);
    if (one.worker) {
      note_failure(*one.worker, one.failure);
      const Millis pause =
          slots_[static_cast<std::size_t>(one.worker->slot)].retry_at - world_.now();
      if (pause.count() > 0) log_.error("{}; tries again in {}", one.failure.error, seconds(pause));
      continue;
    }
    Reload* reload = active_reload();
    if (reload && reload->new_generation == one.generation &&
        reload->step != Reload::Step::rolling_back) {
      fail_reload(*reload, one.failure);
    } else {
      const Generation* generation = find_generation(one.generation);
      log_.error("generation {}: {}; tries again in 1 s", generation ? generation->number : 0,
                 one.failure.error);
      note_failure(one.failure);
    }
  }
}

void Lifecycle::apply(Worker& worker, WorkerEvent event) {
  const WorkerTransition transition = next(worker.state, event);
  if (transition.action == WorkerAction::bug) {
    log_.error("worker {} (pid {}): event {} in state {} is not possible; nothing is done",
               worker.slot, worker.pid, to_string(event), to_string(worker.state));
    return;
  }
  const Generation* generation = find_generation(worker.generation);
  const Millis graceful = generation ? generation->settings->graceful_timeout : Millis(0);
  const bool never_ready = worker.ready_at.count() < 0;
  worker.state = transition.state;
  switch (transition.action) {
    case WorkerAction::none:
    case WorkerAction::bug:
      break;
    case WorkerAction::note_ready:
      worker.ready_at = world_.now();
      worker.deadline.reset();
      worker.loop.see(world_.now(), world_.loop_of(worker.record));
      log_.info("worker {} (pid {}, generation {}) ready after {} ms", worker.slot, worker.pid,
                worker.number, (worker.ready_at - worker.started).count());
      tell(EventKind::worker_ready, worker,
           {{"boot_ms", (worker.ready_at - worker.started).count()}});
      break;
    case WorkerAction::give_sockets:
      worker.stopped_accepting = false;
      if (closes_connections()) world_.send(worker.id, ipc::CloseAfterResponse{});
      step_again_ = true;  // assign_sockets() comes later in this step or the next round
      break;
    case WorkerAction::send_hold:
      worker.sockets.clear();
      world_.send(worker.id, ipc::Hold{});
      break;
    case WorkerAction::send_drain: {
      worker.sockets.clear();
      worker.deadline = world_.now() + graceful + kCutTime;
      if (worker.hang.stage == HangStage::judged && phase_ != Phase::stopping) {
        worker.deadline = std::max(*worker.deadline, world_.now() + kDumpTime);
      }
      const bool last = phase_ == Phase::stopping || target_ == 0;
      world_.send(worker.id, ipc::Drain{last, graceful.count()});
      break;
    }
    case WorkerAction::quit:
      worker.deadline = world_.now() + kLeaveTime;
      world_.send(worker.id, ipc::Quit{});
      break;
    case WorkerAction::expect_exit:
      worker.deadline = world_.now() + kLeaveTime;
      if (worker.failure) note_failure(worker, *worker.failure);
      break;
    case WorkerAction::kill:
      if (never_ready && event == WorkerEvent::deadline && !worker.failure) {
        const bool loaded = generation && generation->load;
        worker.failure = Failure{
            loaded ? "lifespan" : "boot",
            fmt::format("worker {} was not ready within boot_timeout ({}): {} hangs", worker.slot,
                        seconds(generation ? generation->settings->boot_timeout : Millis(0)),
                        loaded ? "its lifespan start-up" : "its import or its lifespan start-up"),
            "", 3};
        worker.killed_for = RestartReason::boot_timeout;
        note_failure(worker, *worker.failure);
      } else {
        if (!worker.killed_for) {
          worker.killed_for =
              worker.failure ? RestartReason::boot_failed : RestartReason::graceful_timeout;
        }
        log_.warning("worker {} (pid {}) has not left within its time; it is killed", worker.slot,
                     worker.pid);
      }
      kill_worker(worker);
      break;
    case WorkerAction::kill_mold:
      if (const auto mold = molds_.find(worker.mold); mold != molds_.end()) {
        log_.error("mold (pid {}) did not fork a worker in time; it is killed and started again",
                   mold->second.pid);
        world_.kill(mold->second.pid, SIGKILL);
      }
      break;
    case WorkerAction::forget:
      forget(worker.id);
      break;
  }
}

void Lifecycle::kill_worker(Worker& worker) {
  if (worker.pid > 0) {
    world_.kill(worker.pid, SIGKILL);
  } else if (const auto mold = molds_.find(worker.mold); mold != molds_.end()) {
    world_.kill(mold->second.pid, SIGKILL);
  } else {
    // Neither pid nor mold: it never came to be, or leaves when its channel closes.
    const Worker gone = worker;
    forget(worker.id);
    worker_gone(gone, {"it never appeared", RestartReason::not_forked});
  }
}

void Lifecycle::retire(WorkerId id) {
  Worker* worker = find(id);
  if (!worker) return;
  switch (worker->state) {
    case WorkerState::draining:
    case WorkerState::failed:
    case WorkerState::killed:
    case WorkerState::gone:
      return;
    case WorkerState::forking:
    case WorkerState::unclaimed:
    case WorkerState::booting:
    case WorkerState::standing:
    case WorkerState::serving:
    case WorkerState::held:
      apply(*worker, WorkerEvent::drain);
  }
}

void Lifecycle::forget(WorkerId id) {
  const auto it = workers_.find(id);
  if (it == workers_.end()) return;
  world_.release_worker(id);
  world_.return_record(it->second.record);
  workers_.erase(it);
}

// `worker` is a copy: it is out of the book already.
void Lifecycle::worker_gone(const Worker& worker, const Ending& ending) {
  const std::string& how = ending.how;
  Slot* slot = static_cast<std::size_t>(worker.slot) < slots_.size()
                   ? &slots_[static_cast<std::size_t>(worker.slot)]
                   : nullptr;
  const bool was_current = slot && slot->current == worker.id;
  const bool was_successor = slot && slot->successor == worker.id;
  if (slot) {
    if (slot->current == worker.id) slot->current = 0;
    if (slot->successor == worker.id) slot->successor = 0;
    if (slot->held == worker.id) slot->held = 0;
  }
  for (const auto& [id, other] : workers_) {
    if (other.state == WorkerState::serving) world_.send(id, ipc::TryAccept{});
  }
  const bool told = worker.state == WorkerState::draining ||
                    (worker.state == WorkerState::killed && !worker.failure);
  if (told) {
    log_.info("worker {} (pid {}, generation {}) left: {}", worker.slot, worker.pid, worker.number,
              how);
    tell(EventKind::worker_left, worker, {{"how", how}});
    if (worker.replaced_by || was_current) count_restart(worker, ending, told);
    return;
  }
  const bool never_ready = worker.ready_at.count() < 0;
  const Millis lived = never_ready ? Millis(0) : world_.now() - worker.ready_at;
  Failure failure = worker.failure.value_or(
      Failure{never_ready ? "boot" : "ready",
              never_ready ? fmt::format("worker {} died before it was ready: {}", worker.slot, how)
                          : fmt::format("worker {} died {} ms after it was ready: {}", worker.slot,
                                        lived.count(), how),
              ending.last_words, 3});
  if (phase_ == Phase::stopping) return;
  if (phase_ == Phase::starting && !listening_) return fail_start(failure);
  // One that its mold took with it, within its time, is forked by the next mold.
  const bool orphan =
      ending.reason == RestartReason::not_forked && ending.outside && worker.deadline;
  if (!orphan) note_failure(worker, failure);
  if (!was_current && !was_successor) {
    log_.info("worker {} (pid {}, generation {}) is gone: {}", worker.slot, worker.pid,
              worker.number, how);
    tell(EventKind::worker_died, worker, {{"how", how}});
    return;
  }
  if (slot->index >= target_) return;
  const Generation* generation = find_generation(slot->wanted_generation);
  if (!generation) return;
  const Millis pause = jittered(
      slot->backoff.died(lived, ending.outside ? Backoff::Cause::outside : Backoff::Cause::own,
                         generation->settings->crash_backoff));
  slot->retry_at = world_.now() + pause;
  slot->last_exit = worker.failure ? failure.stage + ": " + failure.error : how;
  if (was_current) ++slot->restarts;
  count_restart(worker, ending, told);
  nlohmann::ordered_json more{{"how", how}, {"retry_ms", pause.count()}};
  if (worker.failure) more.update({{"stage", failure.stage}, {"error", failure.error}});
  tell(EventKind::worker_died, worker, std::move(more));
  const std::string then =
      pause.count() == 0 ? "a new one starts now" : "a new one starts in " + seconds(pause);
  if (worker.failure) {
    log_.error("worker {} (pid {}, generation {}) failed at {}: {}; {}{}{}", worker.slot,
               worker.pid, worker.number, failure.stage, failure.error, then,
               failure.detail.empty() ? "" : "\n", failure.detail);
  } else {
    log_.error("worker {} (pid {}, generation {}) died {}: {}; {}{}{}", worker.slot, worker.pid,
               worker.number,
               never_ready ? "before it was ready"
                           : fmt::format("{} ms after it was ready", lived.count()),
               how, then, ending.last_words.empty() ? "" : "\n", ending.last_words);
  }
}

// Each process that the OOM killer has ended is told once: two that die together are two.
Ending Lifecycle::ending_of_child(int status, std::int64_t oom_kills_before) {
  const std::int64_t before = std::max(oom_kills_before, oom_kills_told_);
  Ending ending = ending_of(status, before, world_.oom_kills());
  if (ending.reason == RestartReason::oom) oom_kills_told_ = before + 1;
  return ending;
}

// Slots that died together do not come back together.
Millis Lifecycle::jittered(Millis pause) {
  const auto most = static_cast<std::uint64_t>(Backoff::jitter(pause).count());
  return most == 0 ? pause : pause - Millis(world_.random(most));
}

// One reason for each worker: the most serious.
void Lifecycle::count_restart(const Worker& worker, const Ending& ending, bool told) {
  if (phase_ == Phase::stopping) return;
  RestartReason reason = ending.reason;
  if (worker.killed_for) {
    reason = *worker.killed_for;
  } else if (told && ending.clean) {
    reason = worker.replaced_by.value_or(reason);
  } else if (!told && worker.ready_at.count() < 0 && reason != RestartReason::not_forked) {
    reason = RestartReason::boot_failed;
  }
  ++restarts_[static_cast<std::size_t>(reason)];
}

// The first worker of all is ready: clients may come.
void Lifecycle::first_ready() {
  if (listening_) return;
  if (auto listened = world_.start_listening(); !listened) {
    return fail_start(Failure{"bind", listened.error().message(), "", 1});
  }
  listening_ = true;
}

}  // namespace mgr::manager
