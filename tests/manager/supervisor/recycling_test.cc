#include "manager/supervisor/recycling.h"

#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

class Recycling : public LifecycleTest {
 protected:
  void serve(int slot, std::uint64_t requests) {
    world_->requests[current(slot).record] = requests;
  }
  void grow(int slot, std::uint64_t bytes) { world_->resident[current(slot).pid] = bytes; }
  std::uint64_t restarts(RestartReason reason) const {
    return life_->restarts()[static_cast<std::size_t>(reason)];
  }
  std::vector<WorkerId> all_current() const {
    std::vector<WorkerId> ids;
    for (int i = 0; i < life_->target(); ++i) ids.push_back(current(i).id);
    return ids;
  }
};

TEST(RecycleDue, IsTheFirstLimitThatIsReached) {
  const RecycleLimits limits{100, Millis(5000), 1 << 20};
  EXPECT_FALSE(recycle_due(limits, {99, Millis(4999), (1 << 20) - 1}));
  EXPECT_EQ(recycle_due(limits, {100, Millis(0), 0})->reason, RestartReason::max_requests);
  EXPECT_EQ(recycle_due(limits, {0, Millis(5000), 0})->reason, RestartReason::max_lifetime);
  EXPECT_EQ(recycle_due(limits, {0, Millis(0), 1 << 20})->reason, RestartReason::max_memory);
  EXPECT_EQ(recycle_due(limits, {103, Millis(0), 0})->why, "max_requests: 103 of 100");
  EXPECT_EQ(recycle_due(limits, {0, Millis(5500), 0})->why, "max_lifetime: 5.5 s of 5 s");
  EXPECT_EQ(recycle_due(limits, {0, Millis(0), 3 << 19})->why, "max_memory: 1.5 of 1.0 MiB");
}

TEST(RecycleDue, IsNeverWithoutLimits) {
  EXPECT_FALSE(recycle_due({}, {~0ull, Millis(1'000'000'000), ~0ull}));
}

TEST(RecycleLimits, GetTheirShareOfTheJitterOnlyWithMaxRequests) {
  Settings settings;
  settings.max_requests_jitter = 50;
  const auto most = [](std::uint64_t limit) { return limit; };
  EXPECT_EQ(recycle_limits(settings, most).requests, 0u);
  settings.max_requests = 1000;
  EXPECT_EQ(recycle_limits(settings, most).requests, 1050u);
}

TEST_F(Recycling, AWorkerServesUntilItsSuccessorDoes) {
  settings_.max_requests = 100;
  start_ready(1);
  const WorkerId old = current(0).id;
  serve(0, 99);
  pass(Millis(600));
  EXPECT_TRUE(world_->forks.empty());
  serve(0, 100);
  pass(Millis(600));
  ASSERT_EQ(world_->forks.size(), 1u);
  EXPECT_FALSE(was_sent(old, "drain"));
  EXPECT_EQ(current(0).id, old);
  boot_all();
  EXPECT_NE(current(0).id, old);
  EXPECT_TRUE(was_sent(old, "drain"));
  expect_all_sockets_served();
  leavers_leave();
  EXPECT_EQ(restarts(RestartReason::max_requests), 1u);
  EXPECT_EQ(restarts(RestartReason::restart), 0u);
  EXPECT_EQ(life_->slots().front().last_exit, "recycled, max_requests: 100 of 100");
  EXPECT_EQ(life_->slots().front().restarts, 0);
  pass(Millis(5000));
  EXPECT_TRUE(world_->forks.empty()) << "the successor has a count of its own";
}

TEST_F(Recycling, AWorkerThatSaysThatItsRequestsAreSpentIsReplacedAtOnce) {
  settings_.max_requests = 100;
  start_ready(1);
  const WorkerId old = current(0).id;
  serve(0, 100);
  life_->on_worker_message(old, ipc::Spent{}, "");
  ASSERT_EQ(world_->forks.size(), 1u);
  boot_all();
  EXPECT_NE(current(0).id, old);
  EXPECT_TRUE(was_sent(old, "drain"));
}

TEST_F(Recycling, AWorkerIsToldItsLimit) {
  settings_.max_requests = 100;
  settings_.max_requests_jitter = 20;
  world_ = std::make_unique<FakeWorld>(1);
  world_->randoms = {7};
  life_ = std::make_unique<Lifecycle>(*world_, log_);
  life_->start(std::make_shared<const Settings>(settings_), 1);
  load_mold();
  EXPECT_EQ(world_->forks.front().order.max_requests, 107u);
}

TEST_F(Recycling, JitterGivesEachWorkerALimitOfItsOwn) {
  settings_.max_requests = 100;
  settings_.max_requests_jitter = 20;
  world_ = std::make_unique<FakeWorld>(2);
  world_->randoms = {0, 20};
  life_ = std::make_unique<Lifecycle>(*world_, log_);
  life_->start(std::make_shared<const Settings>(settings_), 2);
  load_mold();
  boot_all();
  serve(0, 110);
  serve(1, 110);
  const auto before = all_current();
  pass(Millis(600));
  boot_all();
  EXPECT_NE(current(0).id, before[0]);
  EXPECT_EQ(current(1).id, before[1]);
}

TEST_F(Recycling, NeverMoreThanAQuarterAtOnce) {
  settings_.max_memory = 1000;
  start_ready(8);
  const auto before = all_current();
  for (int i = 0; i < 8; ++i) grow(i, 2000);
  pass(Millis(600));
  EXPECT_EQ(world_->forks.size(), 2u);
  std::size_t replaced = 0;
  for (; replaced < 20 && !world_->forks.empty(); ++replaced) {
    EXPECT_LE(world_->forks.size(), 2u);
    boot_one();
    leavers_leave();
  }
  EXPECT_EQ(replaced, 8u);
  for (int i = 0; i < 8; ++i) EXPECT_NE(current(i).id, before[static_cast<std::size_t>(i)]);
  EXPECT_EQ(restarts(RestartReason::max_memory), 8u);
}

TEST_F(Recycling, HappensAtTheEndOfALifetimeWithoutLookingBefore) {
  settings_.max_lifetime = Millis(60'000);
  start_ready(1);
  const WorkerId old = current(0).id;
  EXPECT_EQ(world_->wake, current(0).ready_at + Millis(60'000));
  pass(Millis(60'000));
  boot_all();
  EXPECT_NE(current(0).id, old);
  leavers_leave();
  EXPECT_EQ(restarts(RestartReason::max_lifetime), 1u);
}

TEST_F(Recycling, AWorkerWhoseThreadsAreAllStuckIsReplacedFirstAndRetiredThen) {
  start_ready(2);
  const WorkerId old = current(0).id;
  const WorkerId other = current(1).id;
  life_->on_worker_message(old, ipc::Stuck{4}, "");
  EXPECT_EQ(world_->forks.size(), 1u);
  EXPECT_FALSE(was_sent(old, "drain"));
  life_->on_worker_message(old, ipc::Stuck{4}, "");
  EXPECT_EQ(world_->forks.size(), 1u) << "once is enough";
  boot_all();
  EXPECT_NE(current(0).id, old);
  EXPECT_EQ(current(1).id, other);
  EXPECT_TRUE(was_sent(old, "drain"));
  leavers_leave();
  EXPECT_EQ(restarts(RestartReason::request_timeout), 1u);
  EXPECT_EQ(life_->slots().front().last_exit, "recycled, request_timeout: all 4 threads are stuck");
}

TEST_F(Recycling, NothingIsLookedAtWithoutALimit) {
  start_ready(4);
  EXPECT_EQ(world_->wake, Millis::max());
}

TEST_F(Recycling, ASuccessorThatFailsLeavesTheOldOneServing) {
  settings_.max_requests = 10;
  start_ready(1);
  const WorkerId old = current(0).id;
  serve(0, 10);
  pass(Millis(600));
  boot_fails(fork_one());
  EXPECT_EQ(current(0).id, old);
  EXPECT_FALSE(was_sent(old, "drain"));
  pass(Millis(120'000));
  boot_all();
  EXPECT_NE(current(0).id, old);
}

TEST_F(Recycling, WaitsForAReloadAndIsDoneByIt) {
  settings_.max_requests = 10;
  start_ready(2);
  reload();
  serve(0, 10);
  pass(Millis(600));
  EXPECT_TRUE(world_->forks.empty());
  load_mold();
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_TRUE(reloads_[0].ok);
  leavers_leave();
  EXPECT_EQ(restarts(RestartReason::reload), 2u);
  EXPECT_EQ(restarts(RestartReason::max_requests), 0u);
}

TEST_F(Recycling, AReloadTakesOverTheReplacementThatWasUnderWay) {
  settings_.max_requests = 10;
  start_ready(2);
  serve(0, 10);
  pass(Millis(600));
  ASSERT_EQ(world_->forks.size(), 1u);
  reload();
  load_mold();
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_TRUE(reloads_[0].ok);
  EXPECT_EQ(generations(), (std::vector<int>{2, 2}));
  expect_all_sockets_served();
}

TEST_F(Recycling, AStopEndsIt) {
  settings_.max_requests = 10;
  start_ready(1);
  serve(0, 10);
  pass(Millis(600));
  life_->stop(Lifecycle::Stop::graceful);
  boot_all();
  leavers_leave();
  EXPECT_EQ(world_->left, 0);
}

}  // namespace
}  // namespace mgr::manager
