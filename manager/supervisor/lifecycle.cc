#include "manager/supervisor/lifecycle.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace mgr::manager {
namespace {

constexpr Millis kForever = Millis::max();
// How long a child that has nothing left to do may take to leave before it is killed.
constexpr Millis kLeaveTime{2000};
// What a draining worker gets beyond graceful_timeout, by which it cuts what still runs itself.
constexpr Millis kCutTime{1000};
// Entries of one Listen record: so many fit with addresses of any length.
constexpr std::size_t kSocketsPerRecord = 16;

std::string seconds(Millis time) {
  return time.count() % 1000 == 0 ? fmt::format("{} s", time.count() / 1000)
                                  : fmt::format("{:.1f} s", static_cast<double>(time.count()) / 1000);
}

}  // namespace

std::string describe_exit(int status) {
  if (WIFSIGNALED(status)) {
    return fmt::format("killed by signal {} ({}){}", WTERMSIG(status), strsignal(WTERMSIG(status)),
                       WCOREDUMP(status) ? ", core dumped" : "");
  }
  return fmt::format("exit status {}", WEXITSTATUS(status));
}

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
    const bool left_open = generation->load && !loaded->left_open.empty();
    if (left_open) {
      std::string found;
      for (const auto& what : loaded->left_open) found += (found.empty() ? "" : ", ") + what;
      if (generation->settings->preload == PreloadMode::automatic) {
        log_.warning("loading the application left open: {}; that does not survive a fork, so each "
                     "worker loads the application itself (preload: off says so without this trial)",
                     found);
        release_mold(id);
        generation->load = false;
        ensure_mold(*generation);
        return step();
      }
      log_.warning("loading the application left open: {}; workers are forked all the same, as "
                   "preload is on", found);
    }
    mold.state = Mold::State::ready;
    generation->interface = loaded->interface;
    log_.info("generation {}: {} by Python {} ({}) in {} ms", generation->number,
              generation->load ? "application loaded" : "mold started", loaded->python,
              loaded->interpreter, loaded->duration_ms);
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
      worker_gone(gone, "could not be forked: " + fork_failed->error, false);
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
    worker->failure = Failure{failed->stage, failed->error, std::move(traceback), failed->exit_status};
    apply(*worker, WorkerEvent::boot_failed);
  } else {
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
      mold_gone(id, describe_exit(status));
      step();
      return true;
    }
  }
  for (auto& [id, worker] : workers_) {
    if (worker.pid != pid) continue;
    const Worker gone = worker;
    const std::int64_t oom_kills = world_.oom_kills();
    const bool outside = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && oom_kills >= 0 &&
                         oom_kills == gone.oom_kills_before;
    apply(worker, WorkerEvent::exited);
    worker_gone(gone, describe_exit(status), outside);
    step();
    return true;
  }
  return false;
}

void Lifecycle::on_time() {
  const Millis now = world_.now();
  if (stop_deadline_ && *stop_deadline_ <= now) begin_stopping();
  for (auto& [id, mold] : molds_) {
    if (!mold.deadline || *mold.deadline > now) continue;
    mold.deadline.reset();
    if (mold.state == Mold::State::loading && !mold.failure) {
      const auto* generation = find_generation(mold.generation);
      mold.failure = Failure{"import",
                             fmt::format("the application did not load within boot_timeout ({})",
                                         seconds(generation ? generation->settings->boot_timeout
                                                            : Millis(0))),
                             "", 4};
      mold_failed(mold, *mold.failure);
    }
    world_.kill(mold.pid, SIGKILL);
  }
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
    advance_changes();
    close_gaps();
    assign_sockets();
    finish_if_empty();
  }
  stepping_ = false;
  arm();
}

void Lifecycle::close_gaps() {
  if (phase_ == Phase::stopping) return;
  if (Generation* generation = find_generation(generation_)) ensure_mold(*generation);
  for (auto& slot : slots_) close_gap(slot);
  if (phase_ == Phase::starting && listening_) {
    const bool complete =
        std::all_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
          return slot.index >= target_ || serving(slot) || slot.retry_at > world_.now();
        });
    if (complete) {
      phase_ = Phase::running;
      log_.info("ready: {} worker{}", target_, target_ == 1 ? "" : "s");
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

// Each socket is served by its slot's worker; where there is none, by a neighbour. Sockets are given
// before they are taken, so that each is always watched by somebody.
void Lifecycle::assign_sockets() {
  if (!listening_ || phase_ == Phase::stopping) return;
  std::vector<Worker*> serving_workers;
  std::vector<int> active;
  for (const auto& slot : slots_) {
    Worker* worker = find(slot.current);
    if (slot.index >= target_ || !worker || worker->state != WorkerState::serving) continue;
    serving_workers.push_back(worker);
    active.push_back(slot.index);
  }
  std::map<WorkerId, std::set<SocketId>> wanted;
  for (const auto& socket : world_.sockets()) {
    if (serving_workers.empty()) break;
    if (socket.slot < 0) {
      for (const Worker* worker : serving_workers) wanted[worker->id].insert(socket.id);
      continue;
    }
    const auto own = std::find(active.begin(), active.end(), socket.slot);
    const auto index = own != active.end()
                           ? static_cast<std::size_t>(own - active.begin())
                           : static_cast<std::size_t>(socket.slot) % serving_workers.size();
    wanted[serving_workers[index]->id].insert(socket.id);
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
  for (Worker* worker : serving_workers) {
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
    if (slot.index < target_ && (!slot.current || !slot.successor) && slot.retry_at > world_.now()) {
      at(slot.retry_at);
    }
  }
  for (const auto& [key, generation] : generations_) {
    if (!generation.mold && generation.retry_mold_at > world_.now()) at(generation.retry_mold_at);
  }
  if (const Reload* reload = active_reload()) {
    const Worker* first = worker(reload->first);
    if (reload->step == Reload::Step::probation && first && first->ready_at.count() >= 0) {
      at(first->ready_at + reload->prepared.settings->min_ready);
    }
    if (reload->step == Reload::Step::settling) at(reload->settle_until);
  }
  world_.wake_at(when);
}

// ---- workers

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
  if (worker.record < 0) {
    log_.error("no record of the scoreboard is free; slot {} tries again in 1 s", slot);
    slots_[static_cast<std::size_t>(slot)].retry_at = world_.now() + Millis(1000);
    return 0;
  }
  worker.id = next_id_++;
  worker.slot = slot;
  worker.generation = generation_key;
  worker.number = generation->number;
  worker.mold = generation->mold;
  worker.epoch = epoch;
  worker.started = world_.now();
  worker.deadline = world_.now() + generation->settings->boot_timeout;
  worker.oom_kills_before = world_.oom_kills();
  const ipc::Fork order{worker.id, slot, worker.record};
  if (auto asked = world_.fork_worker(generation->mold, order); !asked) {
    world_.return_record(worker.record);
    slots_[static_cast<std::size_t>(slot)].retry_at = world_.now() + Millis(1000);
    log_.error("worker {}: {}; tries again in 1 s", slot, asked.error().message());
    return 0;
  }
  const WorkerId id = worker.id;
  workers_.emplace(id, std::move(worker));
  return id;
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
      log_.info("worker {} (pid {}, generation {}) ready after {} ms", worker.slot, worker.pid,
                worker.number, (worker.ready_at - worker.started).count());
      break;
    case WorkerAction::give_sockets:
      worker.stopped_accepting = false;
      step_again_ = true;  // assign_sockets() comes later in this step or the next round
      break;
    case WorkerAction::send_hold:
      worker.sockets.clear();
      world_.send(worker.id, ipc::Hold{});
      break;
    case WorkerAction::send_drain: {
      worker.sockets.clear();
      worker.deadline = world_.now() + graceful + kCutTime;
      const bool last = phase_ == Phase::stopping;
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
        note_failure(worker, *worker.failure);
      } else {
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
    worker_gone(gone, "it never appeared", false);
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
void Lifecycle::worker_gone(const Worker& worker, const std::string& how, bool outside) {
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
    return;
  }
  const bool never_ready = worker.ready_at.count() < 0;
  const Millis lived = never_ready ? Millis(0) : world_.now() - worker.ready_at;
  Failure failure = worker.failure.value_or(Failure{
      never_ready ? "boot" : "ready",
      never_ready ? fmt::format("worker {} died before it was ready: {}", worker.slot, how)
                  : fmt::format("worker {} died {} ms after it was ready: {}", worker.slot,
                                lived.count(), how),
      "", 3});
  if (phase_ == Phase::stopping) return;
  if (phase_ == Phase::starting && !listening_) return fail_start(failure);
  note_failure(worker, failure);
  if (!was_current && !was_successor) {
    log_.info("worker {} (pid {}, generation {}) is gone: {}", worker.slot, worker.pid, worker.number,
              how);
    return;
  }
  if (slot->index >= target_) return;
  const Generation* generation = find_generation(slot->wanted_generation);
  if (!generation) return;
  const Millis pause = slot->backoff.died(
      lived, outside ? Backoff::Cause::outside : Backoff::Cause::own,
      generation->settings->crash_backoff);
  slot->retry_at = world_.now() + pause;
  slot->last_exit = worker.failure ? failure.stage + ": " + failure.error : how;
  if (was_current) ++slot->restarts;
  const std::string then =
      pause.count() == 0 ? "a new one starts now" : "a new one starts in " + seconds(pause);
  if (worker.failure) {
    log_.error("worker {} (pid {}, generation {}) failed at {}: {}; {}{}{}", worker.slot, worker.pid,
               worker.number, failure.stage, failure.error, then, failure.detail.empty() ? "" : "\n",
               failure.detail);
  } else {
    log_.error("worker {} (pid {}, generation {}) died {}: {}; {}", worker.slot, worker.pid,
               worker.number,
               never_ready ? "before it was ready"
                           : fmt::format("{} ms after it was ready", lived.count()),
               how, then);
  }
}

// The first worker of all is ready: clients may come.
void Lifecycle::first_ready() {
  if (listening_) return;
  if (auto listened = world_.start_listening(); !listened) {
    return fail_start(Failure{"bind", listened.error().message(), "", 1});
  }
  listening_ = true;
}

// ---- molds

void Lifecycle::ensure_mold(Generation& generation) {
  if (generation.mold || generation.retry_mold_at > world_.now()) return;
  if (phase_ == Phase::stopping) return;
  ipc::MoldOrder order;
  order.generation = generation.number;
  order.load = generation.load;
  order.settings = generation.settings->to_json();
  Mold mold;
  mold.id = next_id_++;
  mold.generation = generation.key;
  mold.deadline = world_.now() + generation.settings->boot_timeout;
  auto pid = world_.start_mold(mold.id, order);
  if (!pid) {
    generation.retry_mold_at = world_.now() + Millis(1000);
    log_.error("generation {}: {}; tries again in 1 s", generation.number, pid.error().message());
    return;
  }
  mold.pid = *pid;
  generation.mold = mold.id;
  molds_.emplace(mold.id, std::move(mold));
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
  mold.state = Mold::State::leaving;
  if (!generation) return;
  if (generation->mold == mold.id) generation->mold = 0;
  if (phase_ == Phase::stopping) return;
  if (phase_ == Phase::starting && !listening_) return fail_start(failure);
  const Millis pause =
      std::max(generation->mold_backoff.died(Millis(0), Backoff::Cause::own,
                                             generation->settings->crash_backoff),
               Millis(100));
  generation->retry_mold_at = world_.now() + pause;
  Reload* reload = active_reload();
  if (reload && reload->new_generation == generation->key &&
      reload->step != Reload::Step::rolling_back) {
    return fail_reload(*reload, std::move(failure));
  }
  log_.error("generation {}: the mold failed at {}: {}; another starts in {}{}{}", generation->number,
             failure.stage, failure.error, seconds(pause), failure.detail.empty() ? "" : "\n",
             failure.detail);
}

void Lifecycle::mold_gone(MoldId id, const std::string& how) {
  const auto it = molds_.find(id);
  if (it == molds_.end()) return;
  Mold& mold = it->second;
  if (mold.state != Mold::State::leaving) {
    const bool loading = mold.state == Mold::State::loading;
    mold_failed(mold, Failure{"import", loading ? "the mold died while it loaded the application: " + how
                                                : "the mold died: " + how,
                              "", 4});
  }
  std::vector<Worker> orphans;
  for (const auto& [worker_id, worker] : workers_) {
    if (worker.mold == id && worker.pid < 0) orphans.push_back(worker);
  }
  world_.release_mold(id);
  molds_.erase(it);
  for (const auto& orphan : orphans) {
    forget(orphan.id);
    worker_gone(orphan, "its mold died before it was forked", true);
  }
}

// ---- stop

void Lifecycle::stop(Stop kind) {
  const Generation* generation = find_generation(generation_);
  const bool again = phase_ == Phase::draining || phase_ == Phase::stopping;
  if (kind == Stop::graceful && !again) {
    const Millis delay = generation ? generation->settings->drain_delay : Millis(0);
    if (delay.count() > 0 && listening_) {
      log_.info("stopping: readiness fails from now on; requests are served for another {}",
                seconds(delay));
      phase_ = Phase::draining;
      stop_deadline_ = world_.now() + delay;
      refuse_all("the supervisor is stopping");
      for (const auto& [id, worker] : workers_) {
        if (worker.state == WorkerState::serving) world_.send(id, ipc::CloseAfterResponse{});
      }
    } else {
      begin_stopping();
    }
    return step();
  }
  log_.info("stopping at once");
  begin_stopping();
  for (auto& [id, worker] : workers_) {
    world_.send(id, ipc::Quit{});
    worker.deadline = world_.now() + kLeaveTime;
  }
  step();
}

void Lifecycle::begin_stopping() {
  stop_deadline_.reset();
  if (phase_ == Phase::stopping) return;
  phase_ = Phase::stopping;
  refuse_all("the supervisor is stopping");
  const Generation* generation = find_generation(generation_);
  if (listening_) {
    log_.info("stopping: requests in flight have {} to finish",
              seconds(generation ? generation->settings->graceful_timeout : Millis(0)));
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
  if (phase_ == Phase::stopping) return;
  exit_status_ = failure.exit_status;
  if (!failure.detail.empty()) log_.error("{}", failure.detail);
  const std::string reason = failure.stage + ": " + failure.error;
  stop(Stop::quick);  // may end the failure's owner
  // The last line that people see.
  log_.error("cannot start: {}; the supervisor leaves with exit status {}", reason, exit_status_);
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
  for (auto& callback : std::exchange(on_stopped_, {})) callback();
  world_.leave(exit_status_);
}

// ---- questions

const Worker* Lifecycle::worker(WorkerId id) const {
  const auto it = workers_.find(id);
  return it == workers_.end() ? nullptr : &it->second;
}

Worker* Lifecycle::find(WorkerId id) {
  const auto it = workers_.find(id);
  return it == workers_.end() ? nullptr : &it->second;
}

Generation* Lifecycle::find_generation(int key) {
  const auto it = generations_.find(key);
  return it == generations_.end() ? nullptr : &it->second;
}

const Generation* Lifecycle::generation() const {
  const auto it = generations_.find(generation_);
  return it == generations_.end() ? nullptr : &it->second;
}

bool Lifecycle::serving(const Slot& slot) const {
  const Worker* current = worker(slot.current);
  return current && current->state == WorkerState::serving;
}

bool Lifecycle::settled_on(const Slot& slot, std::uint64_t epoch) const {
  const Worker* current = worker(slot.current);
  return current && current->epoch == epoch && current->state == WorkerState::serving;
}

int Lifecycle::slots_backing_off() const {
  const Generation* generation = this->generation();
  const Millis settled = generation ? generation->settings->min_ready : Millis(0);
  int count = 0;
  for (const auto& slot : slots_) {
    if (slot.index >= target_) continue;
    const Worker* current = worker(slot.current);
    const bool lives = current && current->ready_at.count() >= 0 &&
                       (slot.backoff.early_deaths() < 2 ||
                        world_.now() - current->ready_at >= settled);
    const bool looping = slot.backoff.early_deaths() >= 2 || slot.retry_at > world_.now();
    if (looping && !lives) ++count;
  }
  return count;
}

bool Lifecycle::degraded() const {
  const Generation* generation = this->generation();
  return slots_backing_off() > 0 ||
         (generation && generation->mold == 0 && generation->retry_mold_at > world_.now());
}

std::string Lifecycle::not_ready_reason() const {
  switch (phase_) {
    case Phase::starting:
      return "starting: the first workers are not ready yet";
    case Phase::draining:
    case Phase::stopping:
      return "stopping";
    case Phase::running:
      break;
  }
  int serving_slots = 0;
  std::string last;
  for (const auto& slot : slots_) {
    if (slot.index >= target_) continue;
    if (serving(slot)) ++serving_slots;
    if (!slot.last_exit.empty()) last = fmt::format("; worker {} last ended with {}", slot.index, slot.last_exit);
  }
  const int looping = slots_backing_off();
  if (looping >= target_) {
    return fmt::format("degraded: {} of {} workers are in a crash loop{}", looping, target_, last);
  }
  if (serving_slots == 0) return "no worker is ready" + last;
  return "";
}

std::size_t Lifecycle::batch_size() const {
  return std::max<std::size_t>(1, static_cast<std::size_t>(target_) / 4);
}

}  // namespace mgr::manager
