#include "manager/supervisor/backoff.h"

#include <gtest/gtest.h>

namespace mgr::manager {
namespace {

using std::chrono::milliseconds;
constexpr CrashBackoff kLimits{milliseconds(1000), milliseconds(60'000)};

milliseconds early_death(Backoff& backoff) {
  return backoff.died(milliseconds(200), Backoff::Cause::own, kLimits);
}

TEST(Backoff, StartsTheFirstReplacementAtOnce) {
  Backoff backoff;
  EXPECT_EQ(early_death(backoff), milliseconds(0));
}

TEST(Backoff, DoublesThePauseUpToTheLongest) {
  Backoff backoff;
  early_death(backoff);
  for (const int expected : {1000, 2000, 4000, 8000, 16'000, 32'000, 60'000, 60'000}) {
    EXPECT_EQ(early_death(backoff), milliseconds(expected));
  }
}

TEST(Backoff, EndsTheLoopWhenAWorkerHasLivedLongEnough) {
  Backoff backoff;
  early_death(backoff);
  early_death(backoff);
  EXPECT_EQ(backoff.died(Backoff::kSettled, Backoff::Cause::own, kLimits), milliseconds(0));
  EXPECT_EQ(backoff.early_deaths(), 1);
}

TEST(Backoff, HasNoPauseForAWorkerThatWasKilledFromOutside) {
  Backoff backoff;
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(backoff.died(milliseconds(100), Backoff::Cause::outside, kLimits), milliseconds(0));
  }
  EXPECT_EQ(backoff.early_deaths(), 0);
}

TEST(Backoff, NeverPausesLongerThanTheLongestEvenWhenTheFirstIsLonger) {
  Backoff backoff;
  const CrashBackoff odd{milliseconds(5000), milliseconds(2000)};
  backoff.died(milliseconds(0), Backoff::Cause::own, odd);
  EXPECT_EQ(backoff.died(milliseconds(0), Backoff::Cause::own, odd), milliseconds(2000));
}

}  // namespace
}  // namespace mgr::manager
