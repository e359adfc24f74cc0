#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

// A first start that fails, with `reload_on_change`.
class WaitingForChange : public LifecycleTest {
 protected:
  WaitingForChange() {
    settings_.reload_on_change = true;
    settings_.min_ready = Millis(0);
  }
};

TEST_F(WaitingForChange, CodeThatDoesNotLoadDoesNotEndTheSupervisor) {
  start(1);
  fail_mold("import", "SyntaxError");
  EXPECT_TRUE(life_->waits_for_change());
  EXPECT_EQ(life_->not_ready_reason(), "cannot start: import: SyntaxError");
  pass(Millis(600'000));
  EXPECT_FALSE(world_->left);
  EXPECT_EQ(world_->mold_history.size(), 1u) << "nothing is tried before a change";
}

TEST_F(WaitingForChange, AReloadTriesAgainUntilItStarts) {
  start(1);
  fail_mold();
  reload();
  EXPECT_FALSE(life_->waits_for_change());
  ASSERT_EQ(world_->mold_history.size(), 2u);
  fail_mold();
  EXPECT_TRUE(life_->waits_for_change());
  settings_.keep_alive = Millis(7000);
  reload();
  EXPECT_EQ(world_->molds[newest_mold()].settings["keep_alive"], "7s");
  load_mold();
  boot_all();
  EXPECT_EQ(life_->phase(), Phase::running);
  EXPECT_EQ(generations(), std::vector<int>{1});
  for (const auto& outcome : reloads_) EXPECT_TRUE(outcome.ok);
}

TEST_F(WaitingForChange, ALifespanThatFailsIsWaitedForToo) {
  start(2);
  load_mold();
  const MoldId mold = newest_mold();
  boot_fails(fork_one());
  EXPECT_TRUE(life_->waits_for_change());
  EXPECT_TRUE(world_->released_molds.contains(mold));
  leavers_leave();
  reload();
  load_mold();
  boot_all();
  EXPECT_EQ(count_serving(), 2);
}

TEST_F(WaitingForChange, ABadConfigurationIsWaitedForToo) {
  start(1);
  fail_mold();
  bad_configuration_ = true;
  reload();
  EXPECT_FALSE(reloads_.back().ok);
  EXPECT_TRUE(life_->waits_for_change());
  EXPECT_EQ(world_->mold_history.size(), 1u);
}

TEST_F(WaitingForChange, ANumberOfWorkersThatHasChangedIsTaken) {
  start(1);
  fail_mold();
  new_workers_ = 3;
  reload();
  load_mold();
  boot_all();
  EXPECT_EQ(count_serving(), 3);
}

TEST_F(WaitingForChange, AStopEndsIt) {
  start(1);
  fail_mold();
  life_->stop(Lifecycle::Stop::graceful);
  leavers_leave();
  EXPECT_EQ(world_->left, 0);
}

TEST_F(WaitingForChange, APortThatIsTakenIsNoMatterOfCode) {
  start(1);
  load_mold();
  world_->fail_listen = true;
  const WorkerId worker = fork_one();
  ready(worker);
  dies(worker, exited(0));
  leavers_leave();
  EXPECT_EQ(world_->left, 1);
}

}  // namespace
}  // namespace mgr::manager
