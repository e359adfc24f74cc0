#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

class TrafficTest : public LifecycleTest {
 protected:
  void drain() { life_->set_traffic(Traffic::drained, noting(others_)); }
  void undrain() { life_->set_traffic(Traffic::open, noting(others_)); }
  void dismiss() { life_->dismiss(noting(others_)); }
  void dismissed(int workers) {
    start_ready(workers);
    dismiss();
    leavers_leave();
    ASSERT_TRUE(life_->workers().empty());
  }
  int count(WorkerId worker, const std::string& command) const {
    const auto& sent = world_->sent[worker];
    return static_cast<int>(std::count(sent.begin(), sent.end(), command));
  }
};

TEST_F(TrafficTest, DrainFailsReadinessAndUndrainMendsIt) {
  start_ready(2);
  drain();
  EXPECT_EQ(life_->not_ready_reason(), "drained: requests are served; mgr undrain ends it");
  EXPECT_EQ(life_->phase(), Phase::running);
  for (int slot : {0, 1}) EXPECT_EQ(count(current(slot).id, "close_after_response"), 1);
  undrain();
  EXPECT_EQ(life_->not_ready_reason(), "");
  for (int slot : {0, 1}) EXPECT_EQ(count(current(slot).id, "keep_after_response"), 1);
  ASSERT_EQ(others_.size(), 2u);
  EXPECT_TRUE(others_[0].ok && others_[1].ok);
}

TEST_F(TrafficTest, ASecondDrainTellsNobodyAnything) {
  start_ready(1);
  drain();
  drain();
  EXPECT_EQ(count(current(0).id, "close_after_response"), 1);
  EXPECT_TRUE(others_.back().ok);
}

TEST_F(TrafficTest, AWorkerThatStartsWhileDrainedIsToldBeforeItGetsSockets) {
  start_ready(1);
  drain();
  dies(current(0).id, kKilled);
  boot_all();
  EXPECT_EQ(world_->sent[current(0).id].front(), "close_after_response");
  undrain();
  dies(current(0).id, kKilled);
  pass(Millis(2000));
  boot_all();
  EXPECT_EQ(count(current(0).id, "close_after_response"), 0);
}

TEST_F(TrafficTest, AWorkerThatStartsDuringDrainDelayIsToldToo) {
  settings_.drain_delay = Millis(5000);
  start_ready(1);
  life_->stop(Lifecycle::Stop::graceful);
  dies(current(0).id, kKilled);
  boot_all();
  EXPECT_EQ(count(current(0).id, "close_after_response"), 1);
}

TEST_F(TrafficTest, OneThatIsLeavingIsNotToldOfAnUndrain) {
  start_ready(2);
  drain();
  const WorkerId leaving = current(1).id;
  life_->scale(Lifecycle::ScaleTo{1}, noting(others_));
  undrain();
  EXPECT_EQ(count(leaving, "keep_after_response"), 0);
}

TEST_F(TrafficTest, IsNotChangedWhileTheServiceStops) {
  start_ready(1);
  life_->stop(Lifecycle::Stop::graceful);
  drain();
  undrain();
  EXPECT_FALSE(others_[0].ok);
  EXPECT_FALSE(others_[1].ok);
  EXPECT_EQ(others_[1].message, "refused: the supervisor is stopping");
}

// ---- dismiss

TEST_F(TrafficTest, DismissSendsAllWorkersAwayAndKeepsMoldAndSockets) {
  dismissed(2);
  EXPECT_TRUE(others_.back().ok);
  EXPECT_FALSE(world_->left);
  EXPECT_FALSE(world_->closed);
  EXPECT_EQ(life_->molds().size(), 1u);
  EXPECT_EQ(life_->target(), 0);
  EXPECT_FALSE(life_->degraded());
  EXPECT_NE(life_->not_ready_reason(), "");
  pass(Millis(60'000));
  EXPECT_TRUE(world_->forks.empty()) << "nobody comes back by himself";
}

TEST_F(TrafficTest, ADismissedWorkerTakesWhatIsQueued) {
  start_ready(1);
  const WorkerId worker = current(0).id;
  dismiss();
  EXPECT_TRUE(world_->last_drain[worker].last);
}

TEST_F(TrafficTest, AScaleBringsWorkersBackAfterADismissal) {
  dismissed(3);
  life_->scale(Lifecycle::ScaleBy{1}, noting(others_));
  boot_all();
  EXPECT_EQ(count_serving(), 1);
  expect_all_sockets_served();
  EXPECT_EQ(life_->not_ready_reason(), "");
  EXPECT_TRUE(others_.back().ok);
}

TEST_F(TrafficTest, AScaleBelowOneIsRefusedAfterADismissal) {
  dismissed(1);
  life_->scale(Lifecycle::ScaleBy{-1}, noting(others_));
  EXPECT_FALSE(others_.back().ok);
  EXPECT_EQ(life_->target(), 0);
}

TEST_F(TrafficTest, AReloadBringsAllBackWithItsOwnCodeOnly) {
  dismissed(3);
  reload();
  load_mold();
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_TRUE(reloads_[0].ok);
  EXPECT_EQ(generations(), (std::vector<int>{2, 2, 2}));
  EXPECT_EQ(life_->restarts()[static_cast<std::size_t>(RestartReason::reload)], 0)
      << "nobody was replaced";
  expect_all_sockets_served();
}

TEST_F(TrafficTest, AReloadThatFailsLeavesItDismissed) {
  dismissed(2);
  reload();
  fail_mold();
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_FALSE(reloads_[0].ok);
  EXPECT_EQ(life_->target(), 0);
  EXPECT_TRUE(life_->workers().empty());
  reload();
  load_mold();
  run_on();
  EXPECT_EQ(count_serving(), 2);
}

TEST_F(TrafficTest, ADismissalWaitsForTheReloadUnderWay) {
  start_ready(2);
  reload();
  dismiss();
  dismiss();
  EXPECT_EQ(life_->target(), 2);
  load_mold();
  run_on();
  leavers_leave();
  EXPECT_EQ(life_->target(), 0);
  life_->scale(Lifecycle::ScaleTo{2}, noting(others_));
  boot_all();
  EXPECT_EQ(generations(), (std::vector<int>{2, 2}));
}

TEST_F(TrafficTest, AStopEndsADismissedService) {
  dismissed(1);
  life_->stop(Lifecycle::Stop::graceful);
  leavers_leave();
  EXPECT_EQ(world_->left, 0);
}

// ---- log level

TEST_F(TrafficTest, TheLogLevelReachesMoldsAndWorkersOfNowAndOfLater) {
  start_ready(1);
  const WorkerId worker = current(0).id;
  const MoldId mold = newest_mold();
  life_->set_log_level(LogLevel::debug);
  EXPECT_TRUE(was_sent(worker, "set_log_level"));
  EXPECT_EQ(world_->sent_to_molds[mold], (std::vector<std::string>{"set_log_level"}));
  mold_dies(mold, kKilled);
  pass(Millis(2000));
  ASSERT_NE(newest_mold(), mold);
  EXPECT_EQ(world_->molds[newest_mold()].settings["log_level"], "debug");
}

}  // namespace
}  // namespace mgr::manager
