#include "manager/supervisor/lifecycle.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>

namespace mgr::manager {
namespace {

constexpr Millis kForever = Millis::max();
// Entries of one Listen record: so many fit with addresses of any length.
constexpr std::size_t kSocketsPerRecord = 16;

}  // namespace

// ---- events

void Lifecycle::start(SettingsPtr settings, int workers) {
  target_ = workers;
  Generation generation;
  generation.key = generation_ = next_key_++;
  generation.number = 1;
  generation.load = settings->preload != PreloadMode::off;
  generation.settings = std::move(settings);
  generations_.emplace(generation.key, generation);
  for (int i = 0; i < target_; ++i) {
    slots_.push_back(Slot{.index = i, .wanted_generation = generation_});
  }
  ensure_mold(*find_generation(generation_));
  step();
}

void Lifecycle::on_mold_message(MoldId id, const ipc::MoldMessage& message, std::string traceback) {
  const auto it = molds_.find(id);
  if (it == molds_.end()) return;
  Mold& mold = it->second;
  Generation* generation = find_generation(mold.generation);
  if (const auto* loaded = std::get_if<ipc::Loaded>(&message)) {
    if (mold.state != Mold::State::loading || !generation) return;
    mold.deadline.reset();
    generation->mold_backoff.reset();
    note_fit(*generation, mold);
    const bool left_open = generation->load && !loaded->left_open.empty();
    if (left_open) {
      std::string found;
      for (const auto& what : loaded->left_open) found += (found.empty() ? "" : ", ") + what;
      if (generation->settings->preload == PreloadMode::automatic) {
        log_.warning(
            "loading the application left open: {}; that does not survive a fork, so each "
            "worker loads the application itself (preload: off says so without this trial)",
            found);
        release_mold(id);
        generation->load = false;
        ensure_mold(*generation);
        return step();
      }
      log_.warning(
          "loading the application left open: {}; workers are forked all the same, as "
          "preload is on",
          found);
    }
    mold.state = Mold::State::ready;
    generation->interface = loaded->interface;
    const std::string by = loaded->python.empty()
                               ? "from " + loaded->interpreter
                               : "by Python " + loaded->python + " (" + loaded->interpreter + ")";
    log_.info("generation {}: {} {} in {} ms", generation->number,
              generation->load ? "application loaded" : "mold started", by, loaded->duration_ms);
    tell(EventKind::generation_loaded, {{"generation", generation->number},
                                        {"interface", loaded->interface},
                                        {"duration_ms", loaded->duration_ms}});
  } else if (const auto* executes = std::get_if<ipc::Executes>(&message)) {
    mold.interpreter = executes->interpreter;
  } else if (const auto* failed = std::get_if<ipc::LoadFailed>(&message)) {
    mold.failure = Failure{failed->stage, failed->error, std::move(traceback), failed->exit_status};
    mold.deadline = world_.now() + kLeaveTime;
    mold_failed(mold, *mold.failure);
  } else if (const auto* forked = std::get_if<ipc::Forked>(&message)) {
    if (Worker* worker = find(forked->worker)) {
      worker->pid = forked->pid;
      apply(*worker, WorkerEvent::forked);
    }
  } else if (const auto* fork_failed = std::get_if<ipc::ForkFailed>(&message)) {
    if (Worker* worker = find(fork_failed->worker)) {
      worker->failure = Failure{"fork", fork_failed->error, "", 1};
      const Worker gone = *worker;
      apply(*worker, WorkerEvent::fork_failed);
      worker_gone(gone, {"could not be forked: " + fork_failed->error, RestartReason::not_forked});
    }
  }
  step();
}

void Lifecycle::on_worker_message(WorkerId id, const ipc::WorkerMessage& message,
                                  std::string traceback) {
  Worker* worker = find(id);
  if (!worker) return;
  if (std::holds_alternative<ipc::Ready>(message)) {
    if (Generation* generation = find_generation(worker->generation)) {
      generation->interface = std::get<ipc::Ready>(message).interface;
    }
    apply(*worker, WorkerEvent::ready);
  } else if (const auto* failed = std::get_if<ipc::BootFailed>(&message)) {
    worker->failure =
        Failure{failed->stage, failed->error, std::move(traceback), failed->exit_status};
    apply(*worker, WorkerEvent::boot_failed);
  } else if (const auto* stuck = std::get_if<ipc::Stuck>(&message)) {
    recycle(*worker,
            RecycleDue{RestartReason::request_timeout,
                       fmt::format("request_timeout: all {} threads are stuck", stuck->threads)});
  } else if (std::holds_alternative<ipc::Spent>(message)) {
    look_at_usage();
  } else if (std::holds_alternative<ipc::StoppedAccepting>(message)) {
    worker->stopped_accepting = true;
  }
  step();
}

void Lifecycle::on_worker_channel_closed(WorkerId id) {
  Worker* worker = find(id);
  if (!worker) return;
  // Its exit follows. One that has closed its channel and stays is of no use: it cannot be told.
  if (!worker->deadline) worker->deadline = world_.now() + kLeaveTime;
  if (worker->state == WorkerState::serving || worker->state == WorkerState::standing) {
    worker->sockets.clear();
  }
  step();
}

bool Lifecycle::on_exit(pid_t pid, int status) {
  for (auto& [id, mold] : molds_) {
    if (mold.pid == pid) {
      mold_gone(id, ending_of_child(status, mold.oom_kills_before).how,
                world_.last_words_of_mold(id));
      step();
      return true;
    }
  }
  for (auto& [id, worker] : workers_) {
    if (worker.pid != pid) continue;
    const Worker gone = worker;
    Ending ending = ending_of_child(status, gone.oom_kills_before);
    ending.last_words = world_.last_words_of_worker(gone.id);
    if (WIFSIGNALED(status) && WCOREDUMP(status)) {
      const Generation* generation = find_generation(gone.generation);
      const std::string core =
          generation ? world_.core_of(pid, generation->settings->chdir) : std::string();
      if (!core.empty()) ending.how += ": " + core;
    }
    apply(worker, WorkerEvent::exited);
    worker_gone(gone, ending);
    step();
    return true;
  }
  return false;
}

void Lifecycle::on_time() {
  const Millis now = world_.now();
  if (stop_deadline_ && *stop_deadline_ <= now) begin_stopping(Stop::graceful);
  for (auto& [id, mold] : molds_) {
    if (!mold.deadline || *mold.deadline > now) continue;
    mold.deadline.reset();
    if (mold.state == Mold::State::loading && !mold.failure) {
      const auto* generation = find_generation(mold.generation);
      mold.failure =
          Failure{"import",
                  fmt::format("the application did not load within boot_timeout ({}){}",
                              seconds(generation ? generation->settings->boot_timeout : Millis(0)),
                              in_parentheses(mold.interpreter)),
                  "", 4};
      mold_failed(mold, *mold.failure);
    }
    world_.kill(mold.pid, SIGKILL);
  }
  look_at_usage();
  std::vector<WorkerId> late;
  for (auto& [id, worker] : workers_) {
    if (worker.deadline && *worker.deadline <= now) late.push_back(id);
  }
  for (const WorkerId id : late) {
    if (Worker* worker = find(id)) {
      worker->deadline.reset();
      apply(*worker, WorkerEvent::deadline);
    }
  }
  step();
}

// ---- the loop of decisions

void Lifecycle::step() {
  step_again_ = true;
  if (stepping_) return;
  stepping_ = true;
  while (step_again_) {
    step_again_ = false;
    tell_unstarted();
    advance_changes();
    begin_recycling();
    close_gaps();
    assign_sockets();
    finish_if_empty();
  }
  stepping_ = false;
  arm();
  if (observer_) observer_();
}

void Lifecycle::tell(EventKind kind, nlohmann::ordered_json fields) {
  if (on_event_) on_event_(Event{kind, std::move(fields)});
}

void Lifecycle::tell(EventKind kind, const Worker& worker, nlohmann::ordered_json more) {
  nlohmann::ordered_json fields{
      {"slot", worker.slot}, {"pid", worker.pid}, {"generation", worker.number}};
  fields.update(more);
  tell(kind, std::move(fields));
}

void Lifecycle::close_gaps() {
  if (phase_ == Phase::stopping) return;
  if (Generation* generation = find_generation(generation_)) ensure_mold(*generation);
  for (auto& slot : slots_) close_gap(slot);
  if (phase_ == Phase::starting && listening_) {
    const bool complete = std::all_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
      return slot.index >= target_ || serving(slot) || slot.retry_at > world_.now();
    });
    if (complete) {
      phase_ = Phase::running;
      log_.info("ready: {} worker{}", target_, target_ == 1 ? "" : "s");
      tell(EventKind::ready, {{"workers", target_}});
    }
  }
}

void Lifecycle::close_gap(Slot& slot) {
  if (slot.index >= target_) {
    // Parked: its sockets stay open and are served by others; its workers leave.
    for (const WorkerId id : {slot.successor, slot.current, slot.held}) {
      if (id) retire(id);
    }
    slot.current = slot.successor = slot.held = 0;
    return;
  }
  if (!slot.current && slot.successor) std::swap(slot.current, slot.successor);
  Worker* current = find(slot.current);
  if (!current) {
    if (slot.retry_at <= world_.now()) {
      slot.current = start_worker(slot.index, slot.wanted_generation, slot.wanted_epoch);
    }
    return;
  }
  if (current->state == WorkerState::standing) {
    first_ready();
    if (phase_ == Phase::stopping) return;
    apply(*current, WorkerEvent::serve);
  }
  if (current->epoch == slot.wanted_epoch) {
    if (slot.successor) {
      retire(slot.successor);
      slot.successor = 0;
    }
    return;
  }
  Worker* successor = find(slot.successor);
  if (successor && successor->epoch != slot.wanted_epoch) {
    retire(slot.successor);
    successor = nullptr;
    slot.successor = 0;
  }
  if (!successor) {
    if (slot.retry_at <= world_.now()) {
      slot.successor = start_worker(slot.index, slot.wanted_generation, slot.wanted_epoch);
    }
  } else if (successor->state == WorkerState::standing) {
    promote(slot);
  }
}

// The successor takes the slot: it has the sockets before the old worker gives them up.
void Lifecycle::promote(Slot& slot) {
  const WorkerId old = slot.current;
  slot.current = slot.successor;
  slot.successor = 0;
  apply(*find(slot.current), WorkerEvent::serve);
  assign_sockets();
  Worker* replaced = find(old);
  if (!replaced) return;
  if (replaced->generation != find(slot.current)->generation) {
    replaced->replaced_by = RestartReason::reload;
  } else if (replaced->recycle) {
    replaced->replaced_by = replaced->recycle->reason;
    slot.last_exit = "recycled, " + replaced->recycle->why;
  } else {
    replaced->replaced_by = RestartReason::restart;
  }
  const Reload* reload = active_reload();
  const Generation* generation = find_generation(replaced->generation);
  const bool may_return = reload && reload->step != Reload::Step::rolling_back && generation &&
                          !generation->load && replaced->state == WorkerState::serving;
  if (may_return) {
    apply(*replaced, WorkerEvent::hold);
    slot.held = old;
  } else {
    retire(old);
  }
}

// Each socket is served by its slot's worker; where there is none, or it is stuck, by a neighbour.
// Sockets are given before they are taken, so that each is always watched by somebody.
void Lifecycle::assign_sockets() {
  if (!listening_ || phase_ == Phase::stopping) return;
  std::vector<Worker*> serving_workers;
  std::vector<Worker*> able;  // to come to new connections; where none is, all
  std::vector<int> active;
  for (const auto& slot : slots_) {
    Worker* worker = find(slot.current);
    if (slot.index >= target_ || !worker || worker->state != WorkerState::serving) continue;
    serving_workers.push_back(worker);
    if (worker->stuck) continue;
    able.push_back(worker);
    active.push_back(slot.index);
  }
  if (able.empty()) {
    able = serving_workers;
    for (const Worker* worker : able) active.push_back(worker->slot);
  }
  std::map<WorkerId, std::set<SocketId>> wanted;
  for (const auto& socket : world_.sockets()) {
    if (serving_workers.empty()) break;
    if (socket.slot < 0) {
      for (const Worker* worker : serving_workers) wanted[worker->id].insert(socket.id);
      continue;
    }
    const auto own = std::find(active.begin(), active.end(), socket.slot);
    const auto index = own != active.end() ? static_cast<std::size_t>(own - active.begin())
                                           : static_cast<std::size_t>(socket.slot) % able.size();
    wanted[able[index]->id].insert(socket.id);
  }
  for (Worker* worker : serving_workers) {
    std::vector<SocketId> more;
    for (const SocketId id : wanted[worker->id]) {
      if (worker->sockets.insert(id).second) more.push_back(id);
    }
    for (std::size_t i = 0; i < more.size(); i += kSocketsPerRecord) {
      const auto end = std::min(more.size(), i + kSocketsPerRecord);
      world_.give_sockets(worker->id, {more.begin() + static_cast<std::ptrdiff_t>(i),
                                       more.begin() + static_cast<std::ptrdiff_t>(end)});
    }
  }
  if (active != active_slots_) {
    active_slots_ = active;
    world_.set_active_slots(active);
  }
  // One that is stuck keeps what it has, for when it turns again.
  for (Worker* worker : able) {
    ipc::Release release;
    for (auto it = worker->sockets.begin(); it != worker->sockets.end();) {
      if (wanted[worker->id].contains(*it)) {
        ++it;
      } else {
        release.ids.push_back(*it);
        it = worker->sockets.erase(it);
      }
    }
    if (!release.ids.empty()) world_.send(worker->id, release);
  }
}

// Asks to be woken at the nearest deadline.
void Lifecycle::arm() {
  Millis when = kForever;
  const auto at = [&](Millis time) { when = std::min(when, time); };
  if (stop_deadline_) at(*stop_deadline_);
  for (const auto& [id, mold] : molds_) {
    if (mold.deadline) at(*mold.deadline);
  }
  for (const auto& [id, worker] : workers_) {
    if (worker.deadline) at(*worker.deadline);
  }
  for (const auto& slot : slots_) {
    if (slot.index < target_ && (!slot.current || !slot.successor) &&
        slot.retry_at > world_.now()) {
      at(slot.retry_at);
    }
  }
  for (const auto& [key, generation] : generations_) {
    if (!generation.mold && generation.retry_mold_at > world_.now()) at(generation.retry_mold_at);
  }
  if (const Reload* reload = active_reload()) {
    const Worker* first = worker(reload->first);
    Millis proven = kForever;
    if (reload->step == Reload::Step::probation && first && first->ready_at.count() >= 0) {
      proven = first->ready_at + reload->prepared.settings->min_ready;
    }
    if (reload->step == Reload::Step::settling) proven = reload->settle_until;
    // After it, where a loop has yet to turn, on_look() goes on.
    if (proven > world_.now()) at(proven);
  }
  at(next_look_at_usage());
  world_.wake_at(when);
  world_.look_every(look_period());
}

}  // namespace mgr::manager
