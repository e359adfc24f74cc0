#include "common/ipc/scoreboard.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include <new>
#include <utility>

namespace mgr::ipc {
namespace {
constexpr std::size_t kBytes = sizeof(WorkerRecord) * kScoreboardRecords;
}

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

}  // namespace mgr::ipc
