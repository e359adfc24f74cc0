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

milliseconds killed(Backoff& backoff, milliseconds lived = milliseconds(100)) {
  return backoff.died(lived, Backoff::Cause::outside, kLimits);
}

TEST(Backoff, HasNoPauseForAWorkerThatWasKilledFromOutside) {
  Backoff backoff;
  for (int i = 0; i < Backoff::kFreeKills; ++i) EXPECT_EQ(killed(backoff), milliseconds(0));
  EXPECT_EQ(backoff.early_deaths(), 0);
}

TEST(Backoff, TakesAnEndlessRowOfQuickKillsForACrashLoop) {
  Backoff backoff;
  for (int i = 0; i < Backoff::kFreeKills; ++i) killed(backoff);
  for (const int expected : {0, 1000, 2000, 4000})
    EXPECT_EQ(killed(backoff), milliseconds(expected));
}

TEST(Backoff, NeverPausesForKillsOfWorkersThatHaveLivedForAWhile) {
  Backoff backoff;
  for (int i = 0; i < 3 * Backoff::kFreeKills; ++i)
    EXPECT_EQ(killed(backoff, Backoff::kQuickKill), milliseconds(0));
  for (int i = 0; i < Backoff::kFreeKills; ++i) killed(backoff);
  EXPECT_EQ(killed(backoff, Backoff::kQuickKill), milliseconds(0));
  EXPECT_EQ(killed(backoff), milliseconds(0)) << "one that lived begins the row anew";
}

TEST(Backoff, ForgetsEverythingWhenItIsReset) {
  Backoff backoff;
  for (int i = 0; i < Backoff::kFreeKills + 2; ++i) killed(backoff);
  backoff.reset();
  EXPECT_EQ(killed(backoff), milliseconds(0));
  EXPECT_EQ(early_death(backoff), milliseconds(0));
}

TEST(Backoff, TakesAtMostAFifthOffAPause) {
  EXPECT_EQ(Backoff::jitter(milliseconds(1000)), milliseconds(200));
  EXPECT_EQ(Backoff::jitter(milliseconds(0)), milliseconds(0));
}

TEST(Backoff, NeverPausesLongerThanTheLongestEvenWhenTheFirstIsLonger) {
  Backoff backoff;
  const CrashBackoff odd{milliseconds(5000), milliseconds(2000)};
  backoff.died(milliseconds(0), Backoff::Cause::own, odd);
  EXPECT_EQ(backoff.died(milliseconds(0), Backoff::Cause::own, odd), milliseconds(2000));
}

}  // namespace
}  // namespace mgr::manager
