// What the life cycle looks like, for its own decisions and for status.

#include <algorithm>

#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {

const Worker* Lifecycle::worker(WorkerId id) const {
  const auto it = workers_.find(id);
  return it == workers_.end() ? nullptr : &it->second;
}

const Worker* Lifecycle::running_in(int slot) const {
  if (slot < 0 || static_cast<std::size_t>(slot) >= slots_.size()) return nullptr;
  const Worker* current = worker(slots_[static_cast<std::size_t>(slot)].current);
  return current && current->pid > 0 ? current : nullptr;
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

std::string_view to_string(SlotState state) {
  switch (state) {
    case SlotState::starting:
      return "starting";
    case SlotState::ready:
      return "ready";
    case SlotState::hung:
      return "hung";
    case SlotState::backoff:
      return "backoff";
  }
  return "?";
}

std::string_view to_string(Mold::State state) {
  switch (state) {
    case Mold::State::loading:
      return "loading";
    case Mold::State::ready:
      return "ready";
    case Mold::State::leaving:
      return "leaving";
  }
  return "?";
}

bool is_leaving(const Worker& worker) {
  return worker.state == WorkerState::draining || worker.state == WorkerState::held ||
         worker.state == WorkerState::killed;
}

bool hangs(const Worker& worker) {
  return worker.stopped || worker.hang.stage != HangStage::none;
}

bool Lifecycle::active(const Slot& slot) const {
  if (slot.index >= target_) return false;
  if (phase_ != Phase::stopping) return true;
  const Worker* current = worker(slot.current);
  return current && !is_leaving(*current);
}

SlotState Lifecycle::state_of(const Slot& slot) const {
  if (serving(slot)) return hangs(*worker(slot.current)) ? SlotState::hung : SlotState::ready;
  const bool waits = !worker(slot.current) && slot.retry_at > world_.now();
  return waits ? SlotState::backoff : SlotState::starting;
}

bool Lifecycle::serving(const Slot& slot) const {
  const Worker* current = worker(slot.current);
  return current && current->state == WorkerState::serving;
}

bool Lifecycle::settled_on(const Slot& slot, std::uint64_t epoch) const {
  const Worker* current = worker(slot.current);
  return current && current->epoch == epoch && current->state == WorkerState::serving;
}

// Has its loop come back from its callbacks at that moment, or later?
bool Lifecycle::turned_since(const Worker& worker, Millis moment) const {
  LoopWatch loop = worker.loop;
  loop.see(world_.now(), world_.loop_of(worker.record));
  return *loop.turned_at() >= moment;
}

int Lifecycle::count_serving() const {
  return static_cast<int>(std::count_if(slots_.begin(), slots_.end(), [this](const Slot& slot) {
    return slot.index < target_ && serving(slot);
  }));
}

int Lifecycle::slots_backing_off() const {
  const Generation* generation = this->generation();
  const Millis settled = generation ? generation->settings->min_ready : Millis(0);
  int count = 0;
  for (const auto& slot : slots_) {
    if (slot.index >= target_) continue;
    const Worker* current = worker(slot.current);
    const bool lives =
        current && current->ready_at.count() >= 0 &&
        (slot.backoff.early_deaths() < 2 ||
         (current->hang.stage < HangStage::judged && world_.now() - current->ready_at >= settled &&
          turned_since(*current, current->ready_at + settled)));
    const bool looping = slot.backoff.early_deaths() >= 2 || slot.retry_at > world_.now();
    if (looping && !lives) ++count;
  }
  return count;
}

std::string Lifecycle::degraded_reason() const {
  if (const int looping = slots_backing_off(); looping > 0) {
    return fmt::format("{} of {} workers are in a crash loop{}", looping, target_, last_exits());
  }
  const Generation* generation = this->generation();
  if (generation && generation->mold == 0 && generation->retry_mold_at > world_.now()) {
    return "the mold, from which workers are forked, has failed and is started again after a pause";
  }
  return "";
}

// Of the last slot that had one, at the end of a sentence.
std::string Lifecycle::last_exits() const {
  std::string last;
  for (const auto& slot : slots_) {
    if (slot.index < target_ && !slot.last_exit.empty())
      last = fmt::format("; last end of worker {}: {}", slot.index, slot.last_exit);
  }
  return last;
}

std::string Lifecycle::not_ready_reason() const {
  switch (phase_) {
    case Phase::starting:
      if (waits_for_change()) return "cannot start: " + start_failure_;
      return "starting: the first workers are not ready yet";
    case Phase::draining:
    case Phase::stopping:
      return "stopping";
    case Phase::running:
      break;
  }
  if (traffic_ == Traffic::drained) return "drained: requests are served; mgr undrain ends it";
  if (target_ == 0) return std::string(kSentAway);
  if (slots_backing_off() >= target_) return "degraded: " + degraded_reason();
  const int serving = count_serving();
  if (serving == 0) return "no worker is ready" + last_exits();
  const auto hung = std::count_if(slots_.begin(), slots_.end(), [this](const Slot& slot) {
    return slot.index < target_ && state_of(slot) == SlotState::hung;
  });
  return hung == serving ? "every worker hangs" : "";
}

std::string Lifecycle::ready_text() const {
  const std::string degraded = degraded_reason();
  return degraded.empty() ? "ok" : "ok, degraded: " + degraded;
}

std::size_t Lifecycle::batch_size() const {
  return std::max<std::size_t>(1, static_cast<std::size_t>(target_) / 4);
}

}  // namespace mgr::manager
