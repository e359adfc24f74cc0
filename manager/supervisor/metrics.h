#pragma once

#include <optional>
#include <string>

#include "common/base/log.h"
#include "common/ipc/scoreboard.h"
#include "manager/supervisor/busy_ratios.h"
#include "manager/supervisor/lifecycle.h"
#include "manager/supervisor/listeners.h"
#include "manager/supervisor/text_writer.h"
#include "manager/supervisor/totals.h"

namespace mgr::manager {

// What Prometheus scrapes: manager/METRICS.md lists it. Counters are sums over all workers that
// ever were and never fall; gauges of single workers are those of the slots' present workers, so
// that there are as many series as slots, however many workers come and go.
class Metrics {
 public:
  // Everything must outlive it.
  struct Sources {
    World& world;
    const Lifecycle& lifecycle;
    const Listeners& listeners;
    const ipc::Scoreboard& scoreboard;
    Totals& totals;
    const Log& log;
  };
  explicit Metrics(Sources sources);

  // Records that were lost before the log began to count, by a program before this one.
  void set_dropped_before(std::uint64_t records) { dropped_before_ = records; }
  std::uint64_t dropped() const { return dropped_before_ + sources_.log.dropped(); }

  // All families, in the format of TextWriter.
  std::string text();

 private:
  void write_requests(TextWriter& to, const Counters& totals) const;
  void write_durations(TextWriter& to, const Counters& totals) const;
  void write_connections(TextWriter& to, const Counters& totals) const;
  void write_queues(TextWriter& to) const;
  void write_slots(TextWriter& to);
  void write_busy(TextWriter& to);
  void write_memory(TextWriter& to) const;
  void write_workers(TextWriter& to) const;
  void write_restarts(TextWriter& to) const;
  void write_reloads(TextWriter& to) const;
  void write_supervisor(TextWriter& to) const;

  // The sum of a gauge over every worker, those that leave included.
  double sum(const ipc::WorkerRecord::Counter ipc::WorkerRecord::*gauge) const;
  // Calls back with each slot's label and its present worker.
  template <typename Callback>
  void for_each_worker(Callback callback) const;
  template <typename Value>
  void per_slot(TextWriter& to, std::string_view name, std::string_view help, Value value) const;

  Sources sources_;
  BusyRatios busy_;
  std::uint64_t dropped_before_ = 0;
  std::optional<double> started_;  // seconds since 1970
};

}  // namespace mgr::manager
