#include "manager/supervisor/status.h"

#include <unistd.h>

#include <algorithm>

#include "manager/program_version.h"
#include "manager/supervisor/process_info.h"

namespace mgr::manager {
namespace {

using Json = nlohmann::ordered_json;

double to_seconds(Millis time) {
  return static_cast<double>(std::max<Millis::rep>(0, time.count())) / 1000;
}

std::uint64_t value(const ipc::WorkerRecord::Counter& counter) {
  return counter.load(std::memory_order_relaxed);
}

}  // namespace

Status::Status(std::string name, World& world, const Lifecycle& lifecycle,
               const Listeners& listeners, const ipc::Scoreboard& scoreboard)
    : name_(std::move(name)),
      world_(world),
      lifecycle_(lifecycle),
      listeners_(listeners),
      scoreboard_(scoreboard),
      started_(world.now()) {}

std::string Status::state() const {
  switch (lifecycle_.phase()) {
    case Phase::starting:
      return "starting";
    case Phase::draining:
      return "draining";
    case Phase::stopping:
      return "stopping";
    case Phase::running:
      break;
  }
  if (lifecycle_.traffic() == Traffic::drained) return "draining";
  if (lifecycle_.reloading()) return "reloading";
  return lifecycle_.degraded() ? "degraded" : "running";
}

Json Status::describe() {
  const Generation* generation = lifecycle_.generation();
  Json status;
  status["version"] = program_version();
  status["name"] = name_;
  status["pid"] = ::getpid();
  status["generation"] = generation ? generation->number : 0;
  status["state"] = state();
  status["uptime_s"] = to_seconds(world_.now() - started_);
  status["target_workers"] = lifecycle_.target();
  status["reloads"] = lifecycle_.reloads();
  status["last_reload"] = nullptr;
  if (const auto& last = lifecycle_.last_reload()) {
    Json entry{{"ok", last->ok},
               {"stage", nullptr},
               {"error", nullptr},
               {"duration_s", to_seconds(last->duration)}};
    if (last->failure) {
      entry["stage"] = last->failure->stage;
      entry["error"] = last->failure->error;
    }
    status["last_reload"] = std::move(entry);
  }
  status["listeners"] = Json::array();
  for (const auto& listener : listeners_.states()) {
    Json entry{{"address", listener.address}, {"balance", listener.balance}, {"queued", nullptr}};
    if (listener.queued >= 0) entry["queued"] = listener.queued;
    status["listeners"].push_back(std::move(entry));
  }
  status["workers"] = workers();
  status["leaving"] = leaving();
  return status;
}

Json Status::workers() {
  Json workers = Json::array();
  for (const auto& slot : lifecycle_.slots()) {
    if (lifecycle_.active(slot)) workers.push_back(worker(slot));
  }
  busy_.keep(lifecycle_.workers());
  return workers;
}

Json Status::worker(const Slot& slot) {
  Json entry;
  entry["slot"] = slot.index;
  const Worker* current = lifecycle_.worker(slot.current);
  const Generation* generation = lifecycle_.generation();
  if (current) {
    const auto& record = scoreboard_.record(current->record);
    const Millis age = world_.now() - current->started;
    entry["pid"] = current->pid > 0 ? Json(current->pid) : Json(nullptr);
    entry["generation"] = current->number;
    entry["state"] = to_string(lifecycle_.state_of(slot));
    entry["uptime_s"] = to_seconds(age);
    entry["requests"] = ipc::requests(record);
    entry["in_flight"] = value(record.in_flight);
    entry["connections"] = value(record.connections);
    entry["busy"] = busy_.of(current->id, record, age);
    entry["rss"] = resident_bytes(current->pid).value_or(0);
  } else {
    entry["pid"] = nullptr;
    entry["generation"] = generation ? generation->number : 0;
    entry["state"] = to_string(lifecycle_.state_of(slot));
    entry["uptime_s"] = 0.0;
    for (const char* name : {"requests", "in_flight", "connections"}) entry[name] = 0;
    entry["busy"] = 0.0;
    entry["rss"] = 0;
  }
  entry["restarts"] = slot.restarts;
  entry["last_exit"] = slot.last_exit.empty() ? Json(nullptr) : Json(slot.last_exit);
  if (lifecycle_.state_of(slot) == SlotState::backoff) {
    entry["retry_s"] = to_seconds(slot.retry_at - world_.now());
  }
  return entry;
}

Json Status::leaving() const {
  Json leaving = Json::array();
  for (const auto& [id, worker] : lifecycle_.workers()) {
    if (!is_leaving(worker)) continue;
    Json entry{{"slot", worker.slot},
               {"pid", worker.pid > 0 ? Json(worker.pid) : Json(nullptr)},
               {"generation", worker.number},
               {"in_flight", value(scoreboard_.record(worker.record).in_flight)},
               {"deadline_s", nullptr}};
    if (worker.deadline) {
      const Millis cut = worker.state == WorkerState::draining ? kCutTime : Millis(0);
      entry["deadline_s"] = to_seconds(*worker.deadline - cut - world_.now());
    }
    leaving.push_back(std::move(entry));
  }
  return leaving;
}

}  // namespace mgr::manager
