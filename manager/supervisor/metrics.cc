#include "manager/supervisor/metrics.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>

#include "manager/supervisor/process_info.h"
#include "manager/versions.h"

namespace mgr::manager {
namespace {

using Type = TextWriter::Type;
using Label = TextWriter::Label;

// No worker has so many connections or requests: the record was written by something else.
constexpr std::uint64_t kMostOfAGauge = 100'000'000;

constexpr std::array<std::string_view, 6> kStatusClasses{"aborted", "1xx", "2xx",
                                                         "3xx",     "4xx", "5xx"};

double seconds_of(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

double gauge_of(const ipc::WorkerRecord::Counter& gauge) {
  const std::uint64_t value = gauge.load(std::memory_order_relaxed);
  return value <= kMostOfAGauge ? static_cast<double>(value) : 0;
}

std::array<double, ipc::kDurationBounds.size()> duration_bounds() {
  std::array<double, ipc::kDurationBounds.size()> bounds;
  std::transform(ipc::kDurationBounds.begin(), ipc::kDurationBounds.end(), bounds.begin(),
                 seconds_of);
  return bounds;
}

void counter(TextWriter& to, std::string_view name, std::string_view help, double value) {
  to.family(name, Type::counter, help);
  to.sample(value);
}

void gauge(TextWriter& to, std::string_view name, std::string_view help, double value) {
  to.family(name, Type::gauge, help);
  to.sample(value);
}

// The library's name as that of a label: yaml-cpp is yaml_cpp, mgr's own version is version.
std::string label_name(const std::string& library) {
  if (library == "mgr") return "version";
  std::string name = library;
  std::transform(name.begin(), name.end(), name.begin(), [](char c) {
    return c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  return name;
}

void write_build(TextWriter& to) {
  const std::vector<Version> all = versions();
  std::vector<std::string> names;
  std::transform(all.begin(), all.end(), std::back_inserter(names),
                 [](const Version& of) { return label_name(of.name); });
  std::vector<Label> labels;
  for (std::size_t i = 0; i < all.size(); ++i) labels.push_back({names[i], all[i].version});
  to.family("mgr_build_info", Type::gauge, "Always 1; the labels are versions.");
  to.sample(1, labels);
}

}  // namespace

Metrics::Metrics(Sources sources) : sources_(sources), started_(start_time(::getpid())) {}

std::string Metrics::text() {
  TextWriter to;
  const Counters totals = sources_.totals.sum(ipc::monotonic_ns());
  write_requests(to, totals);
  write_durations(to, totals);
  write_connections(to, totals);
  write_queues(to);
  counter(to, "mgr_worker_busy_seconds_total",
          "Time that the loops of all workers have spent outside their wait, the present run "
          "included; its rate divided by mgr_workers_target is how busy the service is.",
          seconds_of(totals.busy_ns));
  write_slots(to);
  write_memory(to);
  write_workers(to);
  write_restarts(to);
  write_reloads(to);
  write_supervisor(to);
  return to.take();
}

void Metrics::write_requests(TextWriter& to, const Counters& totals) const {
  to.family("mgr_http_requests_total", Type::counter,
            "Requests that have ended, by class of the status; aborted: the connection ended "
            "before there was one.");
  for (std::size_t i = 0; i < kStatusClasses.size(); ++i) {
    to.sample(static_cast<double>(totals.requests[i]), {{"status", kStatusClasses[i]}});
  }
  gauge(to, "mgr_http_requests_in_flight",
        "Requests that the application works on, in all workers, leaving ones included.",
        sum(&ipc::WorkerRecord::in_flight));
  counter(to, "mgr_http_request_timeouts_total", "Requests that request_timeout ended.",
          static_cast<double>(totals.timeouts));
  counter(to, "mgr_http_received_bytes_total", "Bytes received from clients.",
          static_cast<double>(totals.bytes_in));
  counter(to, "mgr_http_sent_bytes_total", "Bytes sent to clients.",
          static_cast<double>(totals.bytes_out));
}

void Metrics::write_durations(TextWriter& to, const Counters& totals) const {
  to.family("mgr_http_request_duration_seconds", Type::histogram,
            "From when the worker's loop woke up to the last of the request's head, until the last "
            "of the response was handed to the kernel or kept for it, or the connection ended. "
            "Requests refused before they reached the application have none.");
  to.histogram(duration_bounds(), totals.durations, seconds_of(totals.duration_sum_ns));
}

void Metrics::write_connections(TextWriter& to, const Counters& totals) const {
  counter(to, "mgr_connections_accepted_total", "Connections accepted by workers.",
          static_cast<double>(totals.connections));
  gauge(to, "mgr_connections", "Connections open in all workers, leaving ones included.",
        sum(&ipc::WorkerRecord::connections));
}

void Metrics::write_queues(TextWriter& to) const {
  std::map<std::string, int> queues;
  for (const auto& listener : sources_.listeners.states()) {
    if (listener.queued >= 0) queues[listener.address] += listener.queued;
  }
  to.family("mgr_accept_queue_length", Type::gauge,
            "Connections on the listening address that no worker has accepted yet.");
  for (const auto& [address, queued] : queues) to.sample(queued, {{"address", address}});
}

double Metrics::sum(const ipc::WorkerRecord::Counter ipc::WorkerRecord::*of) const {
  double sum = 0;
  for (const auto& [id, worker] : sources_.lifecycle.workers()) {
    sum += gauge_of(sources_.scoreboard.record(worker.record).*of);
  }
  return sum;
}

template <typename Callback>
void Metrics::for_each_worker(Callback callback) const {
  for (const auto& slot : sources_.lifecycle.slots()) {
    const Worker* worker = sources_.lifecycle.worker(slot.current);
    if (slot.index >= sources_.lifecycle.target() || !worker) continue;
    callback(fmt::format("{}", slot.index), *worker);
  }
}

template <typename Value>
void Metrics::per_slot(TextWriter& to, std::string_view name, std::string_view help,
                       Value value) const {
  to.family(name, Type::gauge, help);
  for_each_worker([&](const std::string& slot, const Worker& worker) {
    const std::optional<double> of = value(worker, sources_.scoreboard.record(worker.record));
    if (of) to.sample(*of, {{"slot", slot}});
  });
}

void Metrics::write_slots(TextWriter& to) {
  using Of = std::optional<double>;
  using Record = ipc::WorkerRecord;
  per_slot(to, "mgr_worker_http_requests_in_flight",
           "Requests that the application works on in the slot's worker.",
           [](const Worker&, const Record& record) { return Of(gauge_of(record.in_flight)); });
  per_slot(to, "mgr_worker_connections", "Connections open in the slot's worker.",
           [](const Worker&, const Record& record) { return Of(gauge_of(record.connections)); });
  per_slot(to, "mgr_worker_loop_lag_seconds",
           "Longest time for which the worker's loop ran callbacks without coming back to its "
           "wait, in the last 30 to 60 s; one that still runs counts.",
           [](const Worker&, const Record& record) {
             return Of(seconds_of(ipc::loop_lag_ns(record, ipc::monotonic_ns())));
           });
  write_busy(to);
  per_slot(to, "mgr_worker_resident_memory_bytes", "Resident memory of the slot's worker.",
           [](const Worker& worker, const Record&) {
             const auto bytes = resident_bytes(worker.pid);
             return bytes ? Of(static_cast<double>(*bytes)) : Of();
           });
}

void Metrics::write_busy(TextWriter& to) {
  per_slot(to, "mgr_worker_busy_ratio",
           "Share of time that the loop of the slot's worker was busy, since the last scrape at "
           "least a second ago, else since its start.",
           [this](const Worker& worker, const ipc::WorkerRecord& record) {
             const Millis age = sources_.world.now() - worker.started;
             return std::optional<double>(busy_.of(worker.id, record, age));
           });
  busy_.keep(sources_.lifecycle.workers());
}

void Metrics::write_memory(TextWriter& to) const {
  double molds = 0;
  for (const auto& [id, mold] : sources_.lifecycle.molds()) {
    molds += static_cast<double>(resident_bytes(mold.pid).value_or(0));
  }
  gauge(to, "mgr_molds_resident_memory_bytes",
        "Resident memory of the processes that workers are forked from; they share most of it.",
        molds);
}

void Metrics::write_workers(TextWriter& to) const {
  const Lifecycle& lifecycle = sources_.lifecycle;
  std::array<int, kSlotStates> states{};
  for (const auto& slot : lifecycle.slots()) {
    if (slot.index >= lifecycle.target()) continue;
    ++states[static_cast<std::size_t>(lifecycle.state_of(slot))];
  }
  to.family("mgr_workers", Type::gauge, "Slots by the state of their worker, and leaving workers.");
  for (std::size_t i = 0; i < states.size(); ++i) {
    to.sample(states[i], {{"state", to_string(static_cast<SlotState>(i))}});
  }
  const auto& all = lifecycle.workers();
  const auto leaving = std::count_if(all.begin(), all.end(),
                                     [](const auto& entry) { return is_leaving(entry.second); });
  to.sample(static_cast<double>(leaving), {{"state", "leaving"}});
  gauge(to, "mgr_workers_target", "Number of workers that is wanted.", lifecycle.target());
  gauge(to, "mgr_ready", "1 while /readyz answers 200, else 0.",
        lifecycle.not_ready_reason().empty() ? 1 : 0);
  gauge(to, "mgr_degraded",
        "1 while a worker is in a crash loop, or the mold can't be started; else 0.",
        lifecycle.degraded() ? 1 : 0);
}

void Metrics::write_restarts(TextWriter& to) const {
  to.family("mgr_worker_restarts_total", Type::counter,
            "Workers that were replaced or started again, by why the old one ended.");
  const RestartCounts& restarts = sources_.lifecycle.restarts();
  for (std::size_t i = 0; i < restarts.size(); ++i) {
    const auto reason = to_string(static_cast<RestartReason>(i));
    to.sample(static_cast<double>(restarts[i]), {{"reason", reason}});
  }
}

void Metrics::write_reloads(TextWriter& to) const {
  const Lifecycle& lifecycle = sources_.lifecycle;
  to.family("mgr_reloads_total", Type::counter,
            "Reloads by result; refused: bad configuration, another under way, or a stop.");
  to.sample(lifecycle.reloads(), {{"result", "ok"}});
  to.sample(lifecycle.reloads_rolled_back(), {{"result", "rolled_back"}});
  to.sample(lifecycle.reloads_refused(), {{"result", "refused"}});
  const auto& last = lifecycle.last_reload();
  gauge(to, "mgr_last_reload_successful",
        "1 where the last reload brought its generation to serve, or there was none; else 0.",
        !last || last->ok ? 1 : 0);
  gauge(to, "mgr_last_reload_duration_seconds",
        "How long the last reload took; 0 where there was none, or it was refused.",
        last ? static_cast<double>(last->duration.count()) / 1000 : 0);
  const Generation* generation = lifecycle.generation();
  gauge(to, "mgr_generation", "Number of the generation that serves: 1, and one more a reload.",
        generation ? generation->number : 0);
}

void Metrics::write_supervisor(TextWriter& to) const {
  counter(to, "mgr_log_records_dropped_total",
          "Records of the supervisor's own log that its descriptor did not take.",
          static_cast<double>(dropped()));
  write_build(to);
  if (started_) {
    gauge(to, "process_start_time_seconds",
          "Start time of the supervisor since unix epoch in seconds.", *started_);
  }
  if (const auto bytes = resident_bytes(::getpid())) {
    gauge(to, "process_resident_memory_bytes", "Resident memory of the supervisor in bytes.",
          static_cast<double>(*bytes));
  }
}

}  // namespace mgr::manager
