// Which workers have used up what they may, and the slots that are replaced for it.

#include "manager/supervisor/recycling.h"

#include <fmt/core.h>

#include <algorithm>

#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {
namespace {

// How long a worker may exceed max_memory before it is noticed. One that has reached max_requests
// says so itself (ipc::Spent), unless an older build runs it.
constexpr Millis kLookEvery{500};

std::string mebibytes(std::uint64_t bytes) {
  return fmt::format("{:.1f}", static_cast<double>(bytes) / (1 << 20));
}

}  // namespace

std::optional<RecycleDue> recycle_due(const RecycleLimits& limits, const Usage& usage) {
  if (limits.requests > 0 && usage.requests >= limits.requests) {
    return RecycleDue{RestartReason::max_requests,
                      fmt::format("max_requests: {} of {}", usage.requests, limits.requests)};
  }
  if (limits.lifetime.count() > 0 && usage.lived >= limits.lifetime) {
    return RecycleDue{
        RestartReason::max_lifetime,
        fmt::format("max_lifetime: {} of {}", seconds(usage.lived), seconds(limits.lifetime))};
  }
  if (limits.memory > 0 && usage.memory >= limits.memory) {
    return RecycleDue{
        RestartReason::max_memory,
        fmt::format("max_memory: {} of {} MiB", mebibytes(usage.memory), mebibytes(limits.memory))};
  }
  return {};
}

void Lifecycle::look_at_usage() {
  if (phase_ != Phase::running) return;
  const Millis now = world_.now();
  next_look_ = now + kLookEvery;
  for (const auto& slot : slots_) {
    Worker* worker = slot.index < target_ ? find(slot.current) : nullptr;
    if (!worker || worker->state != WorkerState::serving || worker->recycle) continue;
    const RecycleLimits& limits = worker->limits;
    auto due =
        recycle_due(limits, Usage{limits.requests > 0 ? world_.requests_of(worker->record) : 0,
                                  now - worker->ready_at,
                                  limits.memory > 0 ? world_.resident_bytes_of(worker->pid) : 0});
    if (due) recycle(*worker, std::move(*due));
  }
}

void Lifecycle::recycle(Worker& worker, RecycleDue due) {
  if (worker.recycle) return;
  worker.recycle = std::move(due);
  log_.info("worker {} (pid {}, generation {}) has reached {}; another takes its place",
            worker.slot, worker.pid, worker.number, worker.recycle->why);
  tell(EventKind::worker_recycled, worker, {{"reason", worker.recycle->why}});
}

// At most a quarter at once (but for those that hang and serve nothing anyway), and none while
// somebody changes something else.
void Lifecycle::begin_recycling() {
  if (phase_ != Phase::running || !changes_.empty()) return;
  const auto replacing = [this](const Slot& slot) {
    const Worker* current = worker(slot.current);
    return slot.index < target_ && current && current->epoch != slot.wanted_epoch;
  };
  auto room = static_cast<std::ptrdiff_t>(batch_size()) -
              std::count_if(slots_.begin(), slots_.end(), replacing);
  for (auto& slot : slots_) {
    const Worker* current = worker(slot.current);
    if (slot.index >= target_ || !current || !current->recycle || replacing(slot)) continue;
    if (room <= 0 && current->hang.stage != HangStage::judged) continue;
    slot.wanted_epoch = next_epoch_++;
    --room;
  }
}

Millis Lifecycle::next_look_at_usage() const {
  Millis when = Millis::max();
  if (phase_ != Phase::running) return when;
  for (const auto& slot : slots_) {
    const Worker* worker = slot.index < target_ ? this->worker(slot.current) : nullptr;
    if (!worker || worker->state != WorkerState::serving || worker->recycle) continue;
    if (worker->limits.watched()) when = std::min(when, next_look_);
    if (worker->limits.lifetime.count() > 0) {
      when = std::min(when, worker->ready_at + worker->limits.lifetime);
    }
  }
  return when;
}

}  // namespace mgr::manager
