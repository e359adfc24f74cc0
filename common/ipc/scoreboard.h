#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace mgr::ipc {

inline constexpr std::uint32_t kScoreboardVersion = 1;
// Records: enough for 512 slots, each with a worker, its successor and some that still leave.
inline constexpr int kScoreboardRecords = 2048;

// One worker's numbers. One writer (the worker), any reader; every field is a relaxed atomic, read
// once and range-checked by the reader. Counters only grow during the life of one worker; the
// supervisor zeroes the record before it gives it to another.
struct alignas(64) WorkerRecord {
  using Counter = std::atomic<std::uint64_t>;

  std::atomic<std::uint32_t> version{0};
  std::atomic<std::int32_t> pid{0};
  // CLOCK_MONOTONIC in ns since when the loop has been running callbacks; 0 while it waits.
  Counter running_since_ns{0};
  // Time that the loop has spent outside its wait, in ns.
  Counter busy_ns{0};
  Counter connections{0};           // open now
  Counter in_flight{0};             // requests whose application has not finished
  Counter connections_total{0};     // accepted
  std::array<Counter, 6> requests;  // by status class: [0] none (aborted), 1xx … 5xx
  Counter bytes_in{0};
  Counter bytes_out{0};
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

}  // namespace mgr::ipc
