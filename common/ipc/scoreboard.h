#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace mgr::ipc {

inline constexpr std::uint32_t kScoreboardVersion = 4;
// Records: enough for 512 slots, each with a worker, its successor and some that still leave.
inline constexpr int kScoreboardRecords = 2048;

// Upper bounds of the duration histogram, inclusive, in ns; longer ones go to a bucket of their
// own.
inline constexpr std::array<std::uint64_t, 15> kDurationBounds{
    500'000,      1'000'000,    2'500'000,    5'000'000,      10'000'000,
    25'000'000,   50'000'000,   100'000'000,  250'000'000,    500'000'000,
    1000'000'000, 2500'000'000, 5000'000'000, 10'000'000'000, 30'000'000'000};
inline constexpr std::size_t kDurationBuckets = kDurationBounds.size() + 1;

// The longest run of a loop is remembered for so long at least, and twice as long at most (ns).
inline constexpr std::uint64_t kLagWindow = 30'000'000'000;

// How often a loop beats that tells nobody when it waits (ns).
inline constexpr std::uint64_t kBeat = 1'000'000'000;

// One worker's numbers. One writer (the worker), any reader; every field is a relaxed atomic, read
// once and range-checked by the reader. Counters only grow during the life of one worker; the
// supervisor zeroes the record before it gives it to another.
struct alignas(64) WorkerRecord {
  using Counter = std::atomic<std::uint64_t>;

  std::atomic<std::uint32_t> version{0};
  std::atomic<std::int32_t> pid{0};
  // CLOCK_MONOTONIC in ns since when the loop has been running callbacks; 0 while it waits.
  Counter running_since_ns{0};
  // Time that the loop has spent outside its wait, in ns, without the present run.
  Counter busy_ns{0};
  // The longest run in the window that began then, and in the one before it; in ns.
  Counter lag_window_began_ns{0};
  Counter longest_run_ns{0};
  Counter longest_run_before_ns{0};
  Counter connections{0};           // open now
  Counter in_flight{0};             // requests whose application has not finished
  Counter connections_total{0};     // accepted
  std::array<Counter, 6> requests;  // by status class: [0] none (aborted), 1xx … 5xx
  Counter bytes_in{0};
  Counter bytes_out{0};
  // Requests that were given to the application, by duration; not cumulative. See count_duration().
  std::array<Counter, kDurationBuckets> durations;
  Counter duration_sum_ns{0};
  Counter timeouts{0};  // requests that request_timeout ended
  // For a loop that tells nobody when it waits: CLOCK_MONOTONIC in ns of the last of its beats,
  // which come every kBeat; 0 for all others.
  Counter beat_ns{0};
  // Of a pool of threads: how many it has, how many of them run a request, since when that is so,
  // and the time that they had run for before, summed. Written under the pool's lock.
  Counter threads{0};
  Counter threads_running{0};
  Counter threads_since_ns{0};
  Counter threads_busy_ns{0};
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// The shared memory of all records: a memfd sealed against resizing.
class Scoreboard {
 public:
  // For the supervisor: a new one.
  static Result<Scoreboard> create();
  // For mold and worker: maps the one behind `fd` (borrowed). Errors: too small, another version.
  static Result<Scoreboard> attach(int fd);

  Scoreboard(Scoreboard&& other) noexcept;
  Scoreboard& operator=(Scoreboard&&) = delete;
  ~Scoreboard();

  int fd() const { return fd_.get(); }
  // `index` in [0, kScoreboardRecords); CHECKed.
  WorkerRecord& record(int index) const;
  void clear(int index) const;

 private:
  Scoreboard(UniqueFd fd, void* memory) : fd_(std::move(fd)), memory_(memory) {}
  UniqueFd fd_;
  void* memory_;
};

// CLOCK_MONOTONIC in ns.
std::uint64_t monotonic_ns();

// ---- for the one writer; no locked instruction is needed

inline void set(WorkerRecord::Counter& counter, std::uint64_t value) {
  counter.store(value, std::memory_order_relaxed);
}
inline void bump(WorkerRecord::Counter& counter, std::uint64_t by = 1) {
  set(counter, counter.load(std::memory_order_relaxed) + by);
}
// The loop has come back from its wait.
inline void begin_run(WorkerRecord& record, std::uint64_t now_ns) {
  set(record.running_since_ns, now_ns);
}
// It waits again.
void end_run(WorkerRecord& record, std::uint64_t now_ns);
// What ran so far is no lag of what follows; the present run begins anew.
void forget_lag(WorkerRecord& record, std::uint64_t now_ns);
void count_duration(WorkerRecord& record, std::uint64_t duration_ns);
// A thread of the pool runs a request from now on (`change` 1), or no more (-1).
void count_thread(WorkerRecord& record, int change, std::uint64_t now_ns);

// ---- for readers, at any time

// How long the loop has been running without coming back to its wait; 0 while it waits. For a loop
// that beats, how long the next beat has been overdue.
std::uint64_t present_run_ns(const WorkerRecord& record, std::uint64_t now_ns);
// Requests that were answered, or given up.
std::uint64_t requests(const WorkerRecord& record);
// Time that the loop has been busy, with the present run, and the share of it in which the threads
// of a pool were: each thread counts for its part of the pool. Never more than it was; less by a
// run for the instant in which that ends.
std::uint64_t busy_ns(const WorkerRecord& record, std::uint64_t now_ns);
// The longest time for which the loop ran callbacks without coming back to its wait: in the last
// kLagWindow at least, the present run included.
std::uint64_t loop_lag_ns(const WorkerRecord& record, std::uint64_t now_ns);

}  // namespace mgr::ipc
