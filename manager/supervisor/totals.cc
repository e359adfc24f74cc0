#include "manager/supervisor/totals.h"

#include "common/base/check.h"

namespace mgr::manager {
namespace {

// What a double holds exactly, and Prometheus reads.
constexpr std::uint64_t kMost = std::uint64_t{1} << 53;

std::uint64_t value(const ipc::WorkerRecord::Counter& counter) {
  return counter.load(std::memory_order_relaxed);
}

// Calls back for each pair of numbers.
template <typename Callback>
void pair_up(Counters& a, const Counters& b, Callback callback) {
  callback(a.connections, b.connections);
  callback(a.bytes_in, b.bytes_in);
  callback(a.bytes_out, b.bytes_out);
  callback(a.busy_ns, b.busy_ns);
  callback(a.duration_sum_ns, b.duration_sum_ns);
  callback(a.timeouts, b.timeouts);
  for (std::size_t i = 0; i < a.requests.size(); ++i) callback(a.requests[i], b.requests[i]);
  for (std::size_t i = 0; i < a.durations.size(); ++i) callback(a.durations[i], b.durations[i]);
}

}  // namespace

Counters Counters::read(const ipc::WorkerRecord& record, std::uint64_t now_ns) {
  Counters counters;
  if (record.version.load(std::memory_order_relaxed) != ipc::kScoreboardVersion) return counters;
  counters.connections = value(record.connections_total);
  counters.bytes_in = value(record.bytes_in);
  counters.bytes_out = value(record.bytes_out);
  counters.busy_ns = ipc::busy_ns(record, now_ns);
  counters.duration_sum_ns = value(record.duration_sum_ns);
  counters.timeouts = value(record.timeouts);
  for (std::size_t i = 0; i < counters.requests.size(); ++i) {
    counters.requests[i] = value(record.requests[i]);
  }
  for (std::size_t i = 0; i < counters.durations.size(); ++i) {
    counters.durations[i] = value(record.durations[i]);
  }
  return counters;
}

void Counters::add(const Counters& other) {
  pair_up(*this, other, [](std::uint64_t& mine, std::uint64_t theirs) { mine += theirs; });
}

void Counters::raise_to(const Counters& fresh) {
  pair_up(*this, fresh, [](std::uint64_t& mine, std::uint64_t theirs) {
    if (theirs > mine && theirs <= kMost) mine = theirs;
  });
}

void Totals::open(int record) {
  CHECK(live_.emplace(record, Counters{}).second);
}

void Totals::close(int record, std::uint64_t now_ns) {
  auto last = live_.extract(record);
  CHECK(!last.empty());
  last.mapped().raise_to(Counters::read(scoreboard_.record(record), now_ns));
  gone_.add(last.mapped());
}

Counters Totals::sum(std::uint64_t now_ns) {
  Counters sum = gone_;
  for (auto& [record, seen] : live_) {
    seen.raise_to(Counters::read(scoreboard_.record(record), now_ns));
    sum.add(seen);
  }
  return sum;
}

}  // namespace mgr::manager
