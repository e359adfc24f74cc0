#include "manager/supervisor/totals.h"

#include <gtest/gtest.h>

namespace mgr::manager {
namespace {

constexpr std::uint64_t kNow = 1'000'000'000;

class TotalsTest : public testing::Test {
 protected:
  void begin(int record) {
    board_.clear(record);
    totals_.open(record);
  }
  void end(int record) { totals_.close(record, kNow); }
  void serve(int record, std::uint64_t requests) {
    ipc::WorkerRecord& of = board_.record(record);
    for (std::uint64_t i = 0; i < requests; ++i) {
      ipc::bump(of.requests[2]);
      ipc::count_duration(of, 2'000'000);
      ipc::bump(of.bytes_out, 100);
      ipc::bump(of.timeouts);
    }
    ipc::bump(of.connections_total);
  }
  std::uint64_t served() { return totals_.sum(kNow).requests[2]; }

  ipc::Scoreboard board_ = std::move(ipc::Scoreboard::create()).value();
  Totals totals_{board_};
};

TEST_F(TotalsTest, AreTheSumOfAllThatLive) {
  begin(0);
  begin(5);
  serve(0, 3);
  serve(5, 4);
  const Counters sum = totals_.sum(kNow);
  EXPECT_EQ(sum.requests, (std::array<std::uint64_t, 6>{0, 0, 7, 0, 0, 0}));
  EXPECT_EQ(sum.durations[2], 7u);
  EXPECT_EQ(sum.duration_sum_ns, 14'000'000u);
  EXPECT_EQ(sum.bytes_out, 700u);
  EXPECT_EQ(sum.timeouts, 7u);
  EXPECT_EQ(sum.connections, 2u);
}

TEST_F(TotalsTest, KeepWhatAWorkerCountedThatNobodyLookedAtBeforeItsEnd) {
  begin(0);
  serve(0, 3);
  end(0);
  EXPECT_EQ(served(), 3u);
}

TEST_F(TotalsTest, CountAReturnedRecordOnceThoughItIsGivenToAnother) {
  for (int i = 0; i < 10; ++i) {
    begin(0);
    EXPECT_EQ(served(), static_cast<std::uint64_t>(i));
    serve(0, 1);
    EXPECT_EQ(served(), static_cast<std::uint64_t>(i) + 1);
    end(0);
    EXPECT_EQ(served(), static_cast<std::uint64_t>(i) + 1);
  }
}

TEST_F(TotalsTest, NeverFallWhenARecordDoes) {
  begin(0);
  serve(0, 5);
  EXPECT_EQ(served(), 5u);
  board_.record(0).requests[2].store(1);
  EXPECT_EQ(served(), 5u);
  end(0);
  EXPECT_EQ(served(), 5u);
}

TEST_F(TotalsTest, LeaveOutWhatNoCounterReaches) {
  begin(0);
  serve(0, 2);
  EXPECT_EQ(served(), 2u);
  board_.record(0).requests[2].store((std::uint64_t{1} << 53) + 1);
  board_.record(0).bytes_in.store(~std::uint64_t{0});
  EXPECT_EQ(served(), 2u);
  EXPECT_EQ(totals_.sum(kNow).bytes_in, 0u);
  board_.record(0).requests[2].store(std::uint64_t{1} << 53);
  EXPECT_EQ(served(), std::uint64_t{1} << 53);
}

TEST_F(TotalsTest, LeaveOutARecordOfAnotherLayout) {
  begin(0);
  serve(0, 2);
  board_.record(0).version.store(ipc::kScoreboardVersion + 1);
  EXPECT_EQ(served(), 0u);
  end(0);
  EXPECT_EQ(served(), 0u);
}

TEST_F(TotalsTest, HoldTheBusyTimeOfARunThatWasCutByTheWorkersEnd) {
  begin(0);
  ipc::begin_run(board_.record(0), kNow - 300);
  EXPECT_EQ(totals_.sum(kNow - 100).busy_ns, 200u);
  end(0);
  EXPECT_EQ(totals_.sum(kNow + 100).busy_ns, 300u);
}

TEST_F(TotalsTest, DoNotFallInTheInstantInWhichARunEnds) {
  begin(0);
  ipc::WorkerRecord& record = board_.record(0);
  ipc::begin_run(record, kNow - 300);
  EXPECT_EQ(totals_.sum(kNow).busy_ns, 300u);
  record.running_since_ns.store(0);  // what end_run() does first
  EXPECT_EQ(totals_.sum(kNow + 10).busy_ns, 300u);
}

TEST_F(TotalsTest, AbortOnARecordThatIsReturnedTwice) {
  begin(0);
  end(0);
  EXPECT_DEATH(end(0), "CHECK failed");
}

}  // namespace
}  // namespace mgr::manager
