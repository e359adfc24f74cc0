#include "common/ipc/scoreboard.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <new>
#include <utility>

namespace mgr::ipc {
namespace {

constexpr std::size_t kBytes = sizeof(WorkerRecord) * kScoreboardRecords;

std::uint64_t value(const WorkerRecord::Counter& counter) {
  return counter.load(std::memory_order_relaxed);
}

// How long the present run has lasted; 0 while the loop waits, and for a time that can't be.
std::uint64_t told_run_ns(const WorkerRecord& record, std::uint64_t now_ns) {
  const std::uint64_t since = value(record.running_since_ns);
  return since > 0 && since < now_ns ? now_ns - since : 0;
}

std::uint64_t pool_busy_ns(const WorkerRecord& record, std::uint64_t now_ns) {
  const std::uint64_t threads = value(record.threads);
  if (threads == 0) return 0;
  const std::uint64_t ended = record.threads_busy_ns.load(std::memory_order_acquire);
  const std::uint64_t since = value(record.threads_since_ns);
  const std::uint64_t running = value(record.threads_running);
  const std::uint64_t passed = since < now_ns && running <= threads ? now_ns - since : 0;
  return (ended + running * passed) / threads;
}

void note_run(WorkerRecord& record, std::uint64_t run_ns, std::uint64_t now_ns) {
  const std::uint64_t window_ns = now_ns - value(record.lag_window_began_ns);
  if (window_ns < kLagWindow) {
    if (run_ns > value(record.longest_run_ns)) set(record.longest_run_ns, run_ns);
    return;
  }
  set(record.longest_run_before_ns, window_ns < 2 * kLagWindow ? value(record.longest_run_ns) : 0);
  set(record.longest_run_ns, run_ns);
  set(record.lag_window_began_ns, now_ns);
}

}  // namespace

Result<Scoreboard> Scoreboard::create() {
  UniqueFd fd(::memfd_create("mgr-scoreboard", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return Error::from_errno("scoreboard: memfd_create");
  if (::ftruncate(fd.get(), kBytes) != 0) return Error::from_errno("scoreboard: ftruncate");
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Error::from_errno("scoreboard: seal");
  }
  return attach(fd.get());
}

Result<Scoreboard> Scoreboard::attach(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return Error::from_errno("scoreboard: fstat");
  if (static_cast<std::size_t>(info.st_size) != kBytes) {
    return Error("scoreboard: another layout (size " + std::to_string(info.st_size) + ")");
  }
  void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return Error::from_errno("scoreboard: mmap");
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 8));
  if (!copy) {
    ::munmap(memory, kBytes);
    return Error::from_errno("scoreboard: dup");
  }
  return Scoreboard(std::move(copy), memory);
}

Scoreboard::Scoreboard(Scoreboard&& other) noexcept
    : fd_(std::move(other.fd_)), memory_(std::exchange(other.memory_, nullptr)) {}

Scoreboard::~Scoreboard() {
  if (memory_) ::munmap(memory_, kBytes);
}

WorkerRecord& Scoreboard::record(int index) const {
  CHECK(index >= 0 && index < kScoreboardRecords);
  return static_cast<WorkerRecord*>(memory_)[index];
}

void Scoreboard::clear(int index) const {
  auto* slot = &record(index);
  new (slot) WorkerRecord{};
  slot->version.store(kScoreboardVersion, std::memory_order_relaxed);
}

std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// A reader takes busy_ns first: seeing the new sum it sees the run's end too, and never counts a
// run twice.
void end_run(WorkerRecord& record, std::uint64_t now_ns) {
  const std::uint64_t run = told_run_ns(record, now_ns);
  set(record.running_since_ns, 0);
  record.busy_ns.store(value(record.busy_ns) + run, std::memory_order_release);
  note_run(record, run, now_ns);
}

void forget_lag(WorkerRecord& record, std::uint64_t now_ns) {
  end_run(record, now_ns);
  set(record.longest_run_ns, 0);
  set(record.longest_run_before_ns, 0);
  begin_run(record, now_ns);
}

void count_duration(WorkerRecord& record, std::uint64_t duration_ns) {
  std::size_t bucket = 0;
  while (bucket < kDurationBounds.size() && duration_ns > kDurationBounds[bucket]) ++bucket;
  bump(record.durations[bucket]);
  bump(record.duration_sum_ns, duration_ns);
}

void count_thread(WorkerRecord& record, int change, std::uint64_t now_ns) {
  const std::uint64_t running = value(record.threads_running);
  const std::uint64_t passed = now_ns - value(record.threads_since_ns);
  set(record.threads_since_ns, now_ns);
  set(record.threads_running, running + static_cast<std::uint64_t>(change));
  record.threads_busy_ns.store(value(record.threads_busy_ns) + running * passed,
                               std::memory_order_release);
}

std::uint64_t present_run_ns(const WorkerRecord& record, std::uint64_t now_ns) {
  const std::uint64_t run = told_run_ns(record, now_ns);
  const std::uint64_t beat = value(record.beat_ns);
  const std::uint64_t due = beat + kBeat;
  return beat > 0 && due < now_ns ? std::max(run, now_ns - due) : run;
}

std::uint64_t requests(const WorkerRecord& record) {
  std::uint64_t sum = 0;
  for (const auto& counter : record.requests) sum += value(counter);
  return sum;
}

std::uint64_t busy_ns(const WorkerRecord& record, std::uint64_t now_ns) {
  const std::uint64_t ended = record.busy_ns.load(std::memory_order_acquire);
  return ended + told_run_ns(record, now_ns) + pool_busy_ns(record, now_ns);
}

std::uint64_t loop_lag_ns(const WorkerRecord& record, std::uint64_t now_ns) {
  const std::uint64_t began = value(record.lag_window_began_ns);
  const std::uint64_t age = now_ns > began ? now_ns - began : 0;
  std::uint64_t longest = present_run_ns(record, now_ns);
  if (age < 2 * kLagWindow) longest = std::max(longest, value(record.longest_run_ns));
  if (age < kLagWindow) longest = std::max(longest, value(record.longest_run_before_ns));
  return longest;
}

}  // namespace mgr::ipc
