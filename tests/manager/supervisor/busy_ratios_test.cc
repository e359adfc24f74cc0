#include "manager/supervisor/busy_ratios.h"

#include <gtest/gtest.h>

namespace mgr::manager {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

TEST(BusyRatio, of_a_worker_seen_first_is_that_since_its_start) {
  BusyRatios ratios;
  ipc::WorkerRecord record;
  record.busy_ns.store(2 * kSecond);
  EXPECT_EQ(ratios.of(1, record, Millis(8000)), 0.25);
  EXPECT_EQ(ratios.of(2, record, Millis(0)), 0) << "no time has passed";
  EXPECT_EQ(ratios.of(3, record, Millis(1000)), 1) << "never more than the whole";
}

TEST(BusyRatio, stays_until_a_second_has_passed) {
  BusyRatios ratios;
  ipc::WorkerRecord record;
  record.busy_ns.store(2 * kSecond);
  EXPECT_EQ(ratios.of(1, record, Millis(8000)), 0.25);
  record.busy_ns.store(4 * kSecond);
  EXPECT_EQ(ratios.of(1, record, Millis(8000)), 0.25);
}

TEST(BusyRatio, of_a_worker_whose_number_is_kept_no_more_begins_anew) {
  BusyRatios ratios;
  ipc::WorkerRecord record;
  record.busy_ns.store(2 * kSecond);
  std::map<WorkerId, Worker> workers;
  workers[1].id = 1;
  ratios.of(1, record, Millis(8000));
  ratios.keep(workers);
  EXPECT_EQ(ratios.of(1, record, Millis(4000)), 0.25);
  ratios.keep({});
  EXPECT_EQ(ratios.of(1, record, Millis(4000)), 0.5);
}

}  // namespace
}  // namespace mgr::manager
