#include "worker/python/gil_load.h"

#include <gtest/gtest.h>

namespace mgr::python {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

class GilLoadTest : public testing::Test {
 protected:
  // For `ms`, two threads compute this share of the time between them, and tell it.
  void pass(std::uint64_t ms, double share) {
    for (const std::uint64_t end = now + ms * kMs; now < end;) {
      now += 10 * kMs;
      computed += static_cast<std::uint64_t>(share / 2 * 10 * kMs);
      for (auto& report : reports) {
        ASSERT_TRUE(load.is_due(report, now));
        load.tell(report, now, computed);
      }
      full = load.is_full(now);
    }
  }
  GilLoad load;
  GilLoad::Report reports[2];
  std::uint64_t now = 1000 * kMs;
  std::uint64_t computed = 5000 * kMs;  // before anybody asked
  bool full = false;
};

TEST_F(GilLoadTest, is_full_once_the_threads_compute_all_the_time_and_no_longer_than_they_do) {
  EXPECT_FALSE(load.is_full(now));
  pass(300, 0.95);
  EXPECT_TRUE(full);
  pass(300, 0.5);
  EXPECT_FALSE(full);
}

TEST_F(GilLoadTest, that_is_less_than_three_quarters_is_not_full) {
  pass(500, 0.7);
  EXPECT_FALSE(full);
  pass(500, 0.8);
  EXPECT_TRUE(full);
}

TEST_F(GilLoadTest, is_forgotten_after_a_silence) {
  pass(300, 1);
  EXPECT_TRUE(full);
  EXPECT_FALSE(load.is_full(now + 1000 * kMs));
}

TEST_F(GilLoadTest, is_asked_for_every_ten_milliseconds_at_most) {
  load.tell(reports[0], now, 0);
  EXPECT_FALSE(load.is_due(reports[0], now + 9 * kMs));
  EXPECT_TRUE(load.is_due(reports[0], now + 10 * kMs));
}

}  // namespace
}  // namespace mgr::python
