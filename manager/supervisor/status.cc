#include "manager/supervisor/status.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#ifndef MGR_VERSION
#error "MGR_VERSION is set by manager/supervisor/CMakeLists.txt"
#endif

namespace mgr::manager {
namespace {

using Json = nlohmann::ordered_json;

double to_seconds(Millis time) {
  return static_cast<double>(std::max<Millis::rep>(0, time.count())) / 1000;
}

std::uint64_t value(const ipc::WorkerRecord::Counter& counter) {
  return counter.load(std::memory_order_relaxed);
}

std::uint64_t requests(const ipc::WorkerRecord& record) {
  std::uint64_t sum = 0;
  for (const auto& counter : record.requests) sum += value(counter);
  return sum;
}

// Resident set in bytes; 0 where it can't be read.
std::uint64_t resident(pid_t pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t size = 0;
  std::uint64_t pages = 0;
  if (!(statm >> size >> pages)) return 0;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

const char* state_of(const Worker& worker) {
  return worker.state == WorkerState::serving ? "ready" : "starting";
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
  if (lifecycle_.reloading()) return "reloading";
  return lifecycle_.degraded() ? "degraded" : "running";
}

Json Status::describe() {
  const Generation* generation = lifecycle_.generation();
  Json status;
  status["version"] = MGR_VERSION;
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
    if (slot.index < lifecycle_.target()) workers.push_back(worker(slot));
  }
  std::erase_if(samples_, [this](const auto& entry) { return !lifecycle_.worker(entry.first); });
  return workers;
}

Json Status::worker(const Slot& slot) {
  Json entry;
  entry["slot"] = slot.index;
  const Worker* current = lifecycle_.worker(slot.current);
  const Generation* generation = lifecycle_.generation();
  if (current) {
    const auto& record = scoreboard_.record(current->record);
    entry["pid"] = current->pid > 0 ? Json(current->pid) : Json(nullptr);
    entry["generation"] = current->number;
    entry["state"] = state_of(*current);
    entry["uptime_s"] = to_seconds(world_.now() - current->started);
    entry["requests"] = requests(record);
    entry["in_flight"] = value(record.in_flight);
    entry["connections"] = value(record.connections);
    entry["busy"] = busy(*current);
    entry["rss"] = current->pid > 0 ? resident(current->pid) : 0;
  } else {
    entry["pid"] = nullptr;
    entry["generation"] = generation ? generation->number : 0;
    entry["state"] = slot.retry_at > world_.now() ? "backoff" : "starting";
    entry["uptime_s"] = 0.0;
    for (const char* name : {"requests", "in_flight", "connections"}) entry[name] = 0;
    entry["busy"] = 0.0;
    entry["rss"] = 0;
  }
  entry["restarts"] = slot.restarts;
  entry["last_exit"] = slot.last_exit.empty() ? Json(nullptr) : Json(slot.last_exit);
  return entry;
}

Json Status::leaving() const {
  Json leaving = Json::array();
  for (const auto& [id, worker] : lifecycle_.workers()) {
    const bool on_its_way = worker.state == WorkerState::draining ||
                            worker.state == WorkerState::held ||
                            worker.state == WorkerState::killed;
    if (!on_its_way) continue;
    Json entry{{"slot", worker.slot},
               {"pid", worker.pid > 0 ? Json(worker.pid) : Json(nullptr)},
               {"generation", worker.number},
               {"in_flight", value(scoreboard_.record(worker.record).in_flight)},
               {"deadline_s", nullptr}};
    if (worker.deadline) entry["deadline_s"] = to_seconds(*worker.deadline - world_.now());
    leaving.push_back(std::move(entry));
  }
  return leaving;
}

double Status::busy(const Worker& worker) {
  const auto& record = scoreboard_.record(worker.record);
  const std::uint64_t now = ipc::monotonic_ns();
  const std::uint64_t since = value(record.running_since_ns);
  std::uint64_t busy_ns = value(record.busy_ns);
  if (since > 0 && since < now) busy_ns += now - since;
  auto [it, fresh] = samples_.try_emplace(worker.id, Sample{now, busy_ns, 0});
  Sample& sample = it->second;
  if (fresh) {
    const auto uptime = static_cast<double>((world_.now() - worker.started).count()) * 1e6;
    sample.ratio = uptime > 0 ? static_cast<double>(busy_ns) / uptime : 0;
  } else if (now - sample.at_ns >= 1'000'000'000 && busy_ns >= sample.busy_ns) {
    sample.ratio =
        static_cast<double>(busy_ns - sample.busy_ns) / static_cast<double>(now - sample.at_ns);
    sample.at_ns = now;
    sample.busy_ns = busy_ns;
  }
  return std::round(std::clamp(sample.ratio, 0.0, 1.0) * 1000) / 1000;
}

}  // namespace mgr::manager
