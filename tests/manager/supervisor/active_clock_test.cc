#include "manager/supervisor/active_clock.h"

#include <gtest/gtest.h>

namespace mgr::manager {
namespace {

using std::chrono::milliseconds;

TEST(ActiveClock, RunsLikeTheRawClockWhileItIsWokenInTime) {
  ActiveClock clock;
  clock.expect(milliseconds(5000));
  EXPECT_EQ(clock.now(milliseconds(4000)), milliseconds(4000));
  EXPECT_EQ(clock.now(milliseconds(5900)), milliseconds(5900));
}

TEST(ActiveClock, ForgivesTheTimeThatTheProcessWasStopped) {
  ActiveClock clock;
  EXPECT_EQ(clock.now(milliseconds(4000)), milliseconds(4000));
  clock.expect(milliseconds(5000));
  EXPECT_EQ(clock.now(milliseconds(65'000)), milliseconds(4000));
  EXPECT_EQ(clock.now(milliseconds(65'010)), milliseconds(4010));
}

TEST(ActiveClock, AfterAStopNoDeadlineIsReachedYet) {
  ActiveClock clock;
  EXPECT_EQ(clock.now(milliseconds(100)), milliseconds(100));
  clock.expect(milliseconds(2100));  // a deadline, armed at 100
  EXPECT_LT(clock.now(milliseconds(4100)), milliseconds(2100));
}

TEST(ActiveClock, AddsUpSeveralStops) {
  ActiveClock clock;
  clock.now(milliseconds(900));
  clock.expect(milliseconds(1000));
  EXPECT_EQ(clock.now(milliseconds(11'000)), milliseconds(900));
  clock.expect(milliseconds(12'000));
  EXPECT_EQ(clock.now(milliseconds(11'500)), milliseconds(1400));
  EXPECT_EQ(clock.now(milliseconds(22'000)), milliseconds(1400));
}

TEST(ActiveClock, TurnsItsTimeIntoRawTime) {
  ActiveClock clock;
  clock.now(milliseconds(1000));
  clock.expect(milliseconds(1000));
  clock.now(milliseconds(11'000));
  EXPECT_EQ(clock.to_raw(milliseconds(3000)), milliseconds(13'000));
  EXPECT_EQ(clock.to_raw(milliseconds::max()), milliseconds::max());
}

TEST(ActiveClock, HasNothingToForgiveWhenItExpectsNothing) {
  ActiveClock clock;
  EXPECT_EQ(clock.now(milliseconds(100'000)), milliseconds(100'000));
}

}  // namespace
}  // namespace mgr::manager
