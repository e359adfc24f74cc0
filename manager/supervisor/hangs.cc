// Loops that are blocked: how long, what for, and what is done about it.

#include "manager/supervisor/hangs.h"

#include <signal.h>

#include <algorithm>

#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {
namespace {

// At what pace loops are looked at while connections could be taken by others.
constexpr Millis kLookEvery{100};
// And while there is nothing but the time-out of one worker.
constexpr Millis kSeldom{1000};
// From SIGABRT to SIGKILL: for a traceback, or a core dump.
constexpr Millis kAbortTime{3000};
constexpr int kCountsInTimeout = 20;
// Of the time before the first count nothing is known: an overloaded machine may have kept the
// supervisor from looking, and the worker from running. So much of it counts.
constexpr Millis kUnknown{200};
// A stack is logged in records of so many bytes, so that one write takes each.
constexpr std::size_t kPartOfStack = 32 * 1024;

bool is_stopped(char state) {
  return state == 'T' || state == 't';
}

}  // namespace

// ---- the account of one loop

void LoopWatch::see(Millis now, LoopSight sight) {
  const Millis unseen = ever_seen_ ? now - seen_ : Millis(0);
  ever_seen_ = true;
  seen_ = now;
  if (sight.run == run_) return;
  run_ = sight.run;
  // The part of its age that the supervisor slept through is not counted.
  began_ = counted_until_ = now - std::clamp(sight.age, Millis(0), unseen);
  blocked_ = excused_ = Millis(0);
  before_.reset();
}

bool LoopWatch::wants_uses(Millis timeout) const {
  if (!runs_long()) return false;
  return !before_ || seen_ - counted_until_ >= timeout / kCountsInTimeout;
}

void LoopWatch::count(const std::vector<ThreadUse>& uses) {
  const Millis elapsed = seen_ - counted_until_;
  if (before_) {
    const Millis excused = std::clamp(excuse(uses, elapsed), Millis(0), elapsed);
    excused_ += excused;
    blocked_ += elapsed - excused;
  } else {
    blocked_ = std::min(elapsed, kUnknown);
  }
  counted_until_ = seen_;
  before_ = uses;
}

Millis LoopWatch::excuse(const std::vector<ThreadUse>& uses, Millis elapsed) const {
  if (!uses.empty() && is_stopped(uses.front().state)) return elapsed;
  Millis most{0};
  for (const ThreadUse& use : uses) {
    const auto old = std::find_if(before_->begin(), before_->end(), [&](const ThreadUse& other) {
      return other.thread == use.thread;
    });
    if (old == before_->end()) continue;
    const Millis ran = use.ran - old->ran;
    const bool waits_now = use.state == 'R';
    if (!use.waited || !old->waited) {
      if (waits_now) most = std::max(most, elapsed - ran);
      continue;
    }
    const Millis waited = *use.waited - *old->waited;
    // The kernel adds a wait when it is over, and leaves out what a hypervisor took away: of one
    // that could run at both ends nothing counts but what it ran.
    const bool no_progress = ran.count() == 0 && waited.count() == 0;
    const bool could_all_the_time = waits_now && (old->state == 'R' || no_progress);
    most = std::max(most, could_all_the_time ? elapsed - ran : waited);
  }
  return most;
}

// ---- the supervisor's part

Millis Lifecycle::look_period() const {
  if (!listening_ || phase_ == Phase::stopping) return Millis(0);
  if (proving()) return kLookEvery;
  const bool any_judged = std::any_of(workers_.begin(), workers_.end(), [](const auto& entry) {
    return entry.second.hang.stage == HangStage::judged;
  });
  if (count_serving() > 1 || any_judged) return kLookEvery;
  const Generation* generation = this->generation();
  const Millis timeout = generation ? generation->settings->timeout : Millis(0);
  if (timeout.count() == 0) return Millis(0);
  return std::clamp(timeout / kCountsInTimeout, kLookEvery, kSeldom);
}

void Lifecycle::on_look() {
  const Millis now = world_.now();
  bool changed = false;
  std::vector<WorkerId> ids;
  for (const auto& [id, worker] : workers_) ids.push_back(id);
  for (const WorkerId id : ids) {
    Worker* worker = find(id);
    if (!worker) continue;
    const bool leaves = worker->state == WorkerState::draining;
    const bool stands = worker->state == WorkerState::standing;
    if (worker->state != WorkerState::serving && !stands &&
        !(leaves && worker->hang.stage == HangStage::judged))
      continue;
    worker->loop.see(now, world_.loop_of(worker->record));
    if (!worker->loop.runs_long()) {
      changed |= turns_again(*worker);
    } else if (is_to_turn(*worker)) {
      changed |= look_at_proof(*worker);
    } else if (escalate(*worker)) {
      changed = true;
    }
  }
  changed |= look_at_queues();
  if (changed || proving()) step();
}

// Do workers of a new generation have to show that their loops turn?
bool Lifecycle::proving() const {
  const Reload* reload = active_reload();
  return reload &&
         (reload->step == Reload::Step::probation || reload->step == Reload::Step::settling);
}

// Is it what the reload waits for, and nothing else would end that? Without sockets its loop has
// nothing to do that may take longer than a start; with them only `timeout` says what is too long,
// if that is not off.
bool Lifecycle::is_to_turn(const Worker& worker) const {
  const Reload* reload = active_reload();
  if (!proving() || worker.epoch != reload->epoch) return false;
  if (worker.state == WorkerState::standing) return true;
  const Settings& settings = *reload->prepared.settings;
  return reload->step == Reload::Step::settling && worker.state == WorkerState::serving &&
         settings.timeout.count() == 0 && world_.now() >= reload->settle_until;
}

// True where it has been blocked for too long: the reload fails, with its stack.
bool Lifecycle::look_at_proof(Worker& worker) {
  if (worker.hang.stage == HangStage::judged) return false;
  const Settings& settings = *active_reload()->prepared.settings;
  const bool boot = settings.timeout.count() == 0 || settings.boot_timeout < settings.timeout;
  const Millis patience = boot ? settings.boot_timeout : settings.timeout;
  if (!worker.loop.wants_uses(patience)) return false;
  worker.loop.count(world_.thread_uses_of(worker.pid));
  if (worker.loop.blocked() < patience) return false;
  worker.hang.stage = HangStage::judged;
  Failure failure{
      "ready",
      fmt::format("worker {} is blocked: its loop has been running one callback for {} ({} is {})",
                  worker.slot, seconds(worker.loop.blocked()), boot ? "boot_timeout" : "timeout",
                  seconds(patience)),
      "", 3};
  world_.take_stack(worker.id, worker.pid,
                    [this, id = worker.id, failure](const Result<std::string>& stack) mutable {
                      const Worker* blocked = find(id);
                      if (!blocked) return;
                      failure.detail =
                          stack ? *stack : "its stack can't be had: " + stack.error().message();
                      const bool bare = blocked->state == WorkerState::standing;
                      note_failure(*blocked, failure);
                      // It has nothing to finish, and can't hear that it is to leave.
                      Worker* leaving = bare ? find(id) : nullptr;
                      if (leaving) leaving->deadline = world_.now() + kLeaveTime;
                      step();
                    });
  return true;
}

// True where that is news.
bool Lifecycle::turns_again(Worker& worker) {
  if (worker.hang.stage == HangStage::aborted) return false;
  const bool hung = worker.hang.stage != HangStage::none;
  if (hung) {
    log_.info("worker {} (pid {}, generation {}) turns again", worker.slot, worker.pid,
              worker.number);
  }
  worker.hang = {};
  return hung;
}

// True where something is to be done about it.
bool Lifecycle::escalate(Worker& worker) {
  Hang& hang = worker.hang;
  if (hang.stage == HangStage::judged) return end_hung(worker);
  const Generation* generation = find_generation(worker.generation);
  const Millis timeout = generation ? generation->settings->timeout : Millis(0);
  if (timeout.count() == 0 || !worker.loop.wants_uses(timeout)) return false;
  worker.loop.count(world_.thread_uses_of(worker.pid));
  if (worker.loop.blocked() >= timeout) {
    judge(worker, timeout);
    return true;
  }
  if (worker.loop.blocked() >= timeout / 2 && hang.stage == HangStage::none) {
    warn(worker, timeout);
    return true;
  }
  if (worker.loop.lasts() >= timeout && worker.loop.excused() >= timeout / 4 && !hang.excuse_told) {
    hang.excuse_told = true;
    log_.warning(
        "worker {} (pid {}, generation {}) has been running one callback for {}, but was kept from "
        "a CPU for {} of it: the machine, or its cgroup, is overloaded; that is taken for no hang",
        worker.slot, worker.pid, worker.number, seconds(worker.loop.lasts()),
        seconds(worker.loop.excused()));
  }
  return false;
}

void Lifecycle::warn(Worker& worker, Millis timeout) {
  worker.hang.stage = HangStage::warned;
  const std::string what = fmt::format(
      "worker {} (pid {}, generation {}) has been running one callback for {}; timeout is {}",
      worker.slot, worker.pid, worker.number, seconds(worker.loop.blocked()), seconds(timeout));
  world_.take_stack(worker.id, worker.pid, [this, what](const Result<std::string>& stack) {
    log_stack(LogLevel::warning, what, stack);
  });
}

// It hangs. What it could still be waited for is its stack, and a worker in its place.
void Lifecycle::judge(Worker& worker, Millis timeout) {
  const Generation* generation = find_generation(worker.generation);
  worker.hang.stage = HangStage::judged;
  worker.hang.abort_by = world_.now() + generation->settings->boot_timeout;
  const std::string excused =
      worker.loop.excused() < timeout / 10
          ? ""
          : fmt::format(", without {} in which it had no CPU", seconds(worker.loop.excused()));
  worker.recycle = RecycleDue{
      RestartReason::timeout,
      fmt::format("timeout: {} in one callback{}", seconds(worker.loop.blocked()), excused)};
  log_.error(
      "worker {} (pid {}, generation {}) hangs: it has been running one callback for {} (timeout "
      "is {}){}; another takes its place, then it is ended",
      worker.slot, worker.pid, worker.number, seconds(worker.loop.blocked()), seconds(timeout),
      excused);
  tell(EventKind::worker_hung, worker, {{"reason", worker.recycle->why}});
  const Millis pause = count_hang(worker);
  if (pause.count() > 0) {
    log_.error("worker {} ends again and again, soon after its start; a new one starts in {}",
               worker.slot, seconds(pause));
  }
  const Failure failure{
      "ready",
      fmt::format("worker {} hangs: it has been running one callback for {} (timeout is {})",
                  worker.slot, seconds(worker.loop.blocked()), seconds(timeout)),
      "", 3};
  const WorkerId id = worker.id;
  const std::string what = fmt::format("worker {} (pid {}, generation {}) hangs here", worker.slot,
                                       worker.pid, worker.number);
  world_.take_stack(id, worker.pid, [this, id, what, failure](const Result<std::string>& stack) {
    log_stack(LogLevel::error, what, stack);
    Worker* dumped = find(id);
    if (!dumped) return;
    dumped->hang.dumped = true;
    note_failure(*dumped, failure);
    step();
  });
}

// A hang is a death as any other for the slot's crash loop; it lived until its loop was blocked.
Millis Lifecycle::count_hang(const Worker& worker) {
  Slot& slot = slots_[static_cast<std::size_t>(worker.slot)];
  const Generation* generation = find_generation(slot.wanted_generation);
  if (slot.current != worker.id || !generation) return Millis(0);
  const Millis lived = worker.loop.turned_at().value_or(worker.ready_at) - worker.ready_at;
  const Millis pause =
      jittered(slot.backoff.died(lived, Backoff::Cause::own, generation->settings->crash_backoff));
  slot.retry_at = world_.now() + pause;
  return pause;
}

void Lifecycle::log_stack(LogLevel level, const std::string& what,
                          const Result<std::string>& stack) {
  if (!stack) {
    log_.write(level, fmt::format("{}; its stack can't be had: {}", what, stack.error().message()));
    return;
  }
  std::string_view left = *stack;
  for (std::string_view then = ""; !left.empty(); then = ", continued") {
    std::size_t size = left.size();
    if (size > kPartOfStack) {
      const std::size_t end = left.rfind('\n', kPartOfStack);
      size = end == std::string_view::npos ? kPartOfStack : end + 1;
    }
    std::string_view part = left.substr(0, size);
    left.remove_prefix(size);
    if (part.ends_with('\n')) part.remove_suffix(1);
    log_.write(level, fmt::format("{}{}:\n{}", what, then, part));
  }
}

// A judged worker goes when its stack is logged and another serves in its place; without that
// where nothing may be started for it, or nothing comes. True when it was told to go.
bool Lifecycle::end_hung(Worker& worker) {
  if (worker.hang.stage != HangStage::judged || !worker.hang.dumped) return false;
  const Slot& slot = slots_[static_cast<std::size_t>(worker.slot)];
  const bool replaced = slot.current != worker.id;
  const bool replaceable = changes_.empty() && phase_ == Phase::running;
  if (!replaced && replaceable && world_.now() < worker.hang.abort_by) return false;
  abort_worker(worker);
  return true;
}

void Lifecycle::abort_worker(Worker& worker) {
  log_.error("worker {} (pid {}, generation {}) is ended by SIGABRT, and by SIGKILL after {}",
             worker.slot, worker.pid, worker.number, seconds(kAbortTime));
  Slot& slot = slots_[static_cast<std::size_t>(worker.slot)];
  slot.last_exit = "hung, " + worker.recycle->why;
  ++slot.restarts;
  worker.hang.stage = HangStage::aborted;
  retire(worker.id);
  worker.killed_for = RestartReason::timeout;
  worker.deadline = world_.now() + kAbortTime;
  world_.kill(worker.pid, SIGABRT);
}

// A worker that can't come to its connections is steered away from, and others accept what waits in
// its queue; until it turns again. True where that changes who serves what.
bool Lifecycle::look_at_queues() {
  bool changed = false;
  bool any_long = false;
  for (auto& [id, worker] : workers_) {
    if (worker.state != WorkerState::serving) continue;
    const bool blocked = worker.stopped || worker.loop.runs_long();
    any_long |= blocked;
    const bool stuck = blocked && (worker.stopped || worker.stuck || has_queue(worker));
    changed |= stuck != worker.stuck;
    worker.stuck = stuck;
  }
  if (any_long) wake_for_shared_queues();
  return changed;
}

bool Lifecycle::has_queue(const Worker& worker) {
  const auto& sockets = world_.sockets();
  return std::any_of(sockets.begin(), sockets.end(), [&](const SocketInfo& socket) {
    return socket.slot >= 0 && worker.sockets.contains(socket.id) &&
           world_.queued_on(socket.id) > 0;
  });
}

// The worker that a connection woke may have begun something long before it came to accept.
void Lifecycle::wake_for_shared_queues() {
  const auto& sockets = world_.sockets();
  const bool waits = std::any_of(sockets.begin(), sockets.end(), [&](const SocketInfo& socket) {
    return socket.slot < 0 && world_.queued_on(socket.id) > 0;
  });
  if (!waits) return;
  for (const auto& [id, worker] : workers_) {
    const bool turns =
        worker.state == WorkerState::serving && !worker.stopped && !worker.loop.runs_long();
    if (turns) world_.send(id, ipc::TryAccept{});
  }
}

bool Lifecycle::on_stopped(pid_t pid, bool stopped) {
  for (auto& [id, worker] : workers_) {
    if (worker.pid != pid) continue;
    if (worker.stopped == stopped) return true;
    worker.stopped = stopped;
    if (stopped) {
      log_.warning(
          "worker {} (pid {}, generation {}) was stopped by a signal; others take its connections "
          "until SIGCONT lets it go on",
          worker.slot, worker.pid, worker.number);
    } else {
      log_.info("worker {} (pid {}, generation {}) goes on", worker.slot, worker.pid,
                worker.number);
    }
    look_at_queues();
    step();
    return true;
  }
  return false;
}

}  // namespace mgr::manager
