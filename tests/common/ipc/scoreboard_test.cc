#include "common/ipc/scoreboard.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace mgr::ipc {
namespace {

TEST(Scoreboard, is_shared_with_a_process_that_attaches_it) {
  const Scoreboard board = std::move(Scoreboard::create()).value();
  board.clear(3);
  const pid_t child = ::fork();
  if (child == 0) {
    const Scoreboard mine = std::move(Scoreboard::attach(board.fd())).value();
    mine.record(3).requests[2].store(42);
    mine.record(3).pid.store(::getpid());
    ::_exit(0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(board.record(3).requests[2].load(), 42u);
  EXPECT_EQ(board.record(3).pid.load(), child);
  EXPECT_EQ(board.record(2).requests[2].load(), 0u);
  EXPECT_EQ(board.record(4).requests[2].load(), 0u);
}

TEST(Scoreboard, is_cleared_for_the_next_worker) {
  const Scoreboard board = std::move(Scoreboard::create()).value();
  WorkerRecord& record = board.record(0);
  record.requests[5].store(1);
  record.bytes_out.store(2);
  record.running_since_ns.store(3);
  board.clear(0);
  EXPECT_EQ(record.requests[5].load(), 0u);
  EXPECT_EQ(record.bytes_out.load(), 0u);
  EXPECT_EQ(record.running_since_ns.load(), 0u);
  EXPECT_EQ(record.version.load(), kScoreboardVersion);
}

TEST(Scoreboard, cannot_be_resized_under_its_reader) {
  const Scoreboard board = std::move(Scoreboard::create()).value();
  EXPECT_NE(::ftruncate(board.fd(), 0), 0);
  EXPECT_NE(::ftruncate(board.fd(), 1 << 30), 0);
}

TEST(Scoreboard, refuses_memory_of_another_layout) {
  const UniqueFd other(::memfd_create("x", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(other.get(), 4096), 0);
  const auto board = Scoreboard::attach(other.get());
  ASSERT_FALSE(board.ok());
  EXPECT_NE(board.error().message().find("another layout"), std::string::npos);
  EXPECT_FALSE(Scoreboard::attach(-1).ok());
}

TEST(Scoreboard, has_a_place_for_each_record_and_no_more) {
  const Scoreboard board = std::move(Scoreboard::create()).value();
  board.clear(kScoreboardRecords - 1);
  EXPECT_DEATH(board.record(kScoreboardRecords), "CHECK failed");
  EXPECT_DEATH(board.record(-1), "CHECK failed");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&board.record(1)) % 64, 0u);
}

TEST(MonotonicClock, goes_forward_in_nanoseconds) {
  const std::uint64_t before = monotonic_ns();
  ::usleep(2000);
  const std::uint64_t passed = monotonic_ns() - before;
  EXPECT_GE(passed, 2'000'000u);
  EXPECT_LT(passed, 5'000'000'000u);
}

}  // namespace
}  // namespace mgr::ipc
