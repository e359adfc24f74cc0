#include "common/ipc/scoreboard.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

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

class Run : public testing::Test {
 protected:
  static constexpr std::uint64_t kSecond = 1'000'000'000;
  // The loop ran from `from` to `to`, in seconds.
  void ran(std::uint64_t from, std::uint64_t to) {
    begin_run(record, from * kSecond);
    end_run(record, to * kSecond);
  }
  std::uint64_t busy_at(std::uint64_t second) const {
    return busy_ns(record, second * kSecond) / kSecond;
  }
  std::uint64_t lag_at(std::uint64_t second) const {
    return loop_lag_ns(record, second * kSecond) / kSecond;
  }
  WorkerRecord record;
};

TEST_F(Run, adds_to_the_busy_time_while_it_lasts_and_once_when_it_ends) {
  begin_run(record, 100 * kSecond);
  EXPECT_EQ(busy_at(103), 3u);
  end_run(record, 104 * kSecond);
  EXPECT_EQ(busy_at(109), 4u);
  ran(110, 111);
  EXPECT_EQ(busy_at(120), 5u);
}

TEST_F(Run, is_lag_that_grows_while_it_lasts) {
  ran(100, 101);
  EXPECT_EQ(lag_at(102), 1u);
  begin_run(record, 103 * kSecond);
  EXPECT_EQ(lag_at(110), 7u);
  EXPECT_EQ(lag_at(1103), 1000u);
}

TEST_F(Run, that_was_the_longest_is_lag_for_thirty_seconds_at_least_and_sixty_at_most) {
  ran(100, 105);
  for (std::uint64_t second = 106; second < 200; second += 2) {
    ran(second, second + 1);
    const std::uint64_t lag = lag_at(second + 1);
    EXPECT_TRUE(lag == 5 || (lag == 1 && second > 134)) << second;
    EXPECT_TRUE(lag == 1 || second < 165) << second;
  }
}

TEST_F(Run, of_a_loop_that_fell_asleep_is_forgotten_too) {
  ran(100, 105);
  EXPECT_EQ(lag_at(134), 5u);
  EXPECT_EQ(lag_at(165), 0u);
  ran(300, 301);
  EXPECT_EQ(lag_at(302), 1u);
}

TEST_F(Run, of_the_start_up_is_busy_time_and_no_lag) {
  begin_run(record, 100 * kSecond);
  forget_lag(record, 120 * kSecond);
  EXPECT_EQ(lag_at(121), 1u);
  EXPECT_EQ(busy_at(121), 21u);
}

TEST_F(Run, that_began_in_the_future_or_never_counts_for_nothing) {
  record.running_since_ns.store(500 * kSecond);
  EXPECT_EQ(busy_at(400), 0u);
  EXPECT_EQ(lag_at(400), 0u);
  record.running_since_ns.store(0);
  end_run(record, 400 * kSecond);
  EXPECT_EQ(busy_at(400), 0u);
}

TEST_F(Run, is_never_counted_twice_by_a_reader_in_another_thread) {
  constexpr int kRuns = 200'000;
  std::atomic<bool> over = false;
  std::atomic<std::uint64_t> clock = 1;
  std::uint64_t most = 0;
  std::thread reader([&] {
    while (!over) {
      // All time is busy time here, so that more than has passed is a run counted twice.
      const std::uint64_t now = clock.load();
      const std::uint64_t busy = busy_ns(record, now);
      const std::uint64_t passed = clock.load();
      most = std::max(most, busy > passed ? busy - passed : 0);
    }
  });
  for (int i = 0; i < kRuns; ++i) {
    begin_run(record, clock);
    clock += 1000;
    end_run(record, clock);
  }
  over = true;
  reader.join();
  EXPECT_EQ(busy_ns(record, clock), kRuns * 1000u);
  EXPECT_EQ(most, 0u);
}

TEST_F(Run, of_a_loop_that_beats_is_what_its_beat_is_overdue) {
  record.beat_ns = 100 * kSecond;
  EXPECT_EQ(present_run_ns(record, 101 * kSecond), 0u);
  EXPECT_EQ(present_run_ns(record, 104 * kSecond), 3 * kSecond);
  EXPECT_EQ(lag_at(104), 3u);
  EXPECT_EQ(busy_at(104), 0u) << "nobody knows what it did meanwhile";
  begin_run(record, 99 * kSecond);
  EXPECT_EQ(present_run_ns(record, 104 * kSecond), 5 * kSecond);
}

TEST_F(Run, of_a_thread_of_a_pool_is_its_part_of_the_busy_time) {
  record.threads = 4;
  EXPECT_EQ(busy_at(100), 0u);
  count_thread(record, 1, 100 * kSecond);
  EXPECT_EQ(busy_at(104), 1u);
  count_thread(record, 1, 104 * kSecond);
  EXPECT_EQ(busy_at(106), 2u);
  count_thread(record, -1, 106 * kSecond);
  count_thread(record, -1, 110 * kSecond);
  EXPECT_EQ(busy_at(1000), 3u);
  ran(1000, 1002);
  EXPECT_EQ(busy_at(1002), 5u);
}

TEST(Duration, falls_into_the_bucket_whose_bound_it_does_not_exceed) {
  WorkerRecord record;
  for (const std::uint64_t bound : kDurationBounds) {
    count_duration(record, bound);
    count_duration(record, bound + 1);
  }
  EXPECT_EQ(record.durations.front().load(), 1u);
  for (std::size_t i = 1; i < kDurationBounds.size(); ++i)
    EXPECT_EQ(record.durations[i].load(), 2u);
  EXPECT_EQ(record.durations.back().load(), 1u);
  std::uint64_t sum = 0;
  for (const std::uint64_t bound : kDurationBounds) sum += 2 * bound + 1;
  EXPECT_EQ(record.duration_sum_ns.load(), sum);
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
