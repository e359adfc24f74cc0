#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

// ---- first start

TEST_F(LifecycleTest, ListensWhenTheFirstWorkerIsReady) {
  start(2);
  load_mold();
  EXPECT_FALSE(world_->listening);
  const WorkerId first = boot_one();
  EXPECT_TRUE(world_->listening);
  EXPECT_EQ(world_->given[first].size(), 2u) << "it serves its neighbour's socket as well";
  EXPECT_EQ(life_->phase(), Phase::starting);
  boot_one();
  EXPECT_EQ(life_->phase(), Phase::running);
  EXPECT_EQ(world_->given[first].size(), 1u);
  expect_all_sockets_served();
  EXPECT_EQ(life_->not_ready_reason(), "");
}

TEST_F(LifecycleTest, TellsMoldsWhetherAllOfItIsACheck) {
  start(1);
  EXPECT_FALSE(world_->molds.begin()->second.check_only);
  check_only_ = true;
  start(1);
  EXPECT_TRUE(world_->molds.begin()->second.check_only);
}

TEST_F(LifecycleTest, TakesReadyBeforeTheMoldHasReportedThePid) {
  start(1);
  load_mold();
  const auto asked = world_->forks.front();
  ready(asked.order.worker);
  EXPECT_FALSE(world_->listening);
  fork_one();
  EXPECT_TRUE(world_->listening);
  EXPECT_EQ(count_serving(), 1);
}

TEST_F(LifecycleTest, LeavesWithFourWhenTheApplicationCanNotBeLoadedAtFirstStart) {
  start(2);
  fail_mold();
  EXPECT_EQ(world_->left, 4);
}

TEST_F(LifecycleTest, LeavesWithThreeWhenLifespanFailsAtFirstStart) {
  start(2);
  load_mold();
  const WorkerId first = fork_one();
  fork_one();
  boot_fails(first);
  leavers_leave();
  EXPECT_EQ(world_->left, 3);
}

TEST_F(LifecycleTest, LeavesWithThreeWhenLifespanHangsAtFirstStart) {
  start(1);
  load_mold();
  const WorkerId worker = fork_one();
  pass(Millis(61'000));
  ASSERT_FALSE(world_->kills.empty());
  EXPECT_EQ(world_->kills.back().second, SIGKILL);
  dies(worker, kKilled);
  leavers_leave();
  EXPECT_EQ(world_->left, 3);
}

TEST_F(LifecycleTest, LeavesWithFourWhenTheImportHangsAtFirstStart) {
  start(1);
  pass(Millis(61'000));
  mold_dies(newest_mold(), kKilled);
  EXPECT_EQ(world_->left, 4);
}

TEST_F(LifecycleTest, LeavesWithOneWhenItCanNotListen) {
  start(1);
  load_mold();
  world_->fail_listen = true;
  const WorkerId worker = fork_one();
  ready(worker);
  dies(worker, exited(0));
  leavers_leave();
  EXPECT_EQ(world_->left, 1);
}

TEST_F(LifecycleTest, LeavesWithOneWhenAMoldCanNotBeStartedAtFirst) {
  world_ = std::make_unique<FakeWorld>(1);
  world_->fail_mold = true;
  life_ = std::make_unique<Lifecycle>(*world_, log_);
  life_->start(std::make_shared<const Settings>(settings_), 1);
  EXPECT_TRUE(world_->mold_history.empty());
  EXPECT_EQ(world_->left, 1);
}

TEST_F(LifecycleTest, LeavesWithOneWhenNoWorkerCanBeForkedAtFirst) {
  start(2);
  world_->fail_fork = true;
  load_mold();
  leavers_leave();
  EXPECT_EQ(world_->left, 1);
}

TEST_F(LifecycleTest, TriesAgainWhenAMoldCanNotBeStartedLater) {
  start_ready(1);
  world_->fail_mold = true;
  mold_dies(newest_mold(), kKilled);
  pass(Millis(3000));
  EXPECT_EQ(world_->mold_history.size(), 1u);
  EXPECT_EQ(life_->phase(), Phase::running);
  world_->fail_mold = false;
  pass(Millis(1000));
  EXPECT_EQ(world_->mold_history.size(), 2u);
}

TEST_F(LifecycleTest, AReloadWhoseMoldCanNotBeStartedIsTakenBack) {
  start_ready(1);
  world_->fail_mold = true;
  reload();
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_FALSE(reloads_[0].ok);
  EXPECT_EQ(reloads_[0].failure->error, "no mold: fork: Resource temporarily unavailable");
  EXPECT_EQ(generations(), std::vector<int>{1});
}

TEST_F(LifecycleTest, AReloadWhoseFirstWorkerCanNotBeForkedIsTakenBack) {
  start_ready(2);
  reload();
  world_->fail_fork = true;
  load_mold();
  world_->fail_fork = false;
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_FALSE(reloads_[0].ok);
  EXPECT_EQ(reloads_[0].failure->error,
            "worker 0 could not be started: socketpair: Too many open files");
  EXPECT_EQ(generations(), (std::vector<int>{1, 1}));
}

TEST_F(LifecycleTest, AScaleIsNotReachedWhenItsWorkersCanNotBeForked) {
  start_ready(1);
  world_->fail_fork = true;
  life_->scale(Lifecycle::ScaleTo{3}, noting(others_));
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_FALSE(others_[0].ok);
  ASSERT_TRUE(others_[0].failure);
  EXPECT_EQ(others_[0].failure->error,
            "worker 1 could not be started: socketpair: Too many open files");
  life_->scale(Lifecycle::ScaleTo{1}, noting(others_));
  ASSERT_EQ(others_.size(), 2u);
  EXPECT_TRUE(others_[1].ok) << "the way back is open";
  EXPECT_EQ(count_serving(), 1);
}

TEST_F(LifecycleTest, ARestartIsNotReachedEither) {
  start_ready(2);
  world_->fail_fork = true;
  life_->restart({0}, noting(others_));
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_FALSE(others_[0].ok);
  EXPECT_EQ(count_serving(), 2);
}

// ---- preload

TEST_F(LifecycleTest, LetsWorkersLoadThemselvesWhenLoadingLeftThreads) {
  start(1);
  EXPECT_TRUE(world_->molds[newest_mold()].load);
  load_mold({"thread 'reporter'"});
  EXPECT_EQ(world_->mold_history.size(), 2u);
  EXPECT_FALSE(world_->molds[newest_mold()].load);
  EXPECT_TRUE(world_->released_molds.contains(world_->mold_history.front()));
  load_mold();
  boot_all();
  EXPECT_EQ(count_serving(), 1);
}

TEST_F(LifecycleTest, ForksAllTheSameWhenPreloadIsOn) {
  settings_.preload = PreloadMode::on;
  start(1);
  load_mold({"thread 'reporter'"});
  EXPECT_EQ(world_->mold_history.size(), 1u);
  boot_all();
  EXPECT_EQ(count_serving(), 1);
}

// ---- crash

TEST_F(LifecycleTest, ReplacesAKilledWorkerAtOnceAndEveryTime) {
  start_ready(2);
  for (int i = 0; i < 20; ++i) {
    dies(current(i % 2).id, kKilled);
    ASSERT_EQ(world_->forks.size(), 1u) << "round " << i;
    expect_all_sockets_served();
    boot_one();
    pass(Millis(50));
  }
  EXPECT_EQ(life_->slots()[0].restarts, 10);
  EXPECT_EQ(life_->slots()[0].last_exit, "killed by signal 9 (Killed)");
  EXPECT_FALSE(life_->degraded());
}

TEST_F(LifecycleTest, PausesForAWorkerThatIsKilledFromOutsideWithoutEnd) {
  start_ready(2);
  for (int i = 0; i <= Backoff::kFreeKills; ++i) {
    dies(current(1).id, kKilled);
    ASSERT_EQ(world_->forks.size(), 1u) << "round " << i;
    boot_one();
    pass(Millis(50));
  }
  dies(current(1).id, kKilled);
  EXPECT_TRUE(world_->forks.empty());
  EXPECT_TRUE(life_->degraded());
  EXPECT_EQ(life_->not_ready_reason(), "") << "the other one serves on";
  EXPECT_NE(life_->ready_text().find("1 of 2 workers are in a crash loop; last end of worker 1: "),
            std::string::npos)
      << life_->ready_text();
  pass(Millis(1000));
  EXPECT_EQ(world_->forks.size(), 1u);
}

TEST_F(LifecycleTest, SpreadsThePausesOfSlotsThatDieTogether) {
  start_ready(2);
  for (int i = 0; i < 2; ++i) {
    if (i == 1) world_->randoms = {0, 200};
    for (int slot = 0; slot < 2; ++slot) dies(current(slot).id, exited(1));
    if (i == 0) boot_all();
  }
  EXPECT_EQ(life_->slots()[0].retry_at - world_->time, Millis(1000));
  EXPECT_EQ(life_->slots()[1].retry_at - world_->time, Millis(800));
}

TEST_F(LifecycleTest, IsDegradedWhileTheMoldCanNotBeStarted) {
  start_ready(1);
  EXPECT_EQ(life_->ready_text(), "ok");
  mold_dies(newest_mold(), kKilled);
  EXPECT_TRUE(life_->degraded());
  EXPECT_EQ(life_->not_ready_reason(), "");
  EXPECT_NE(life_->ready_text().find("the mold"), std::string::npos);
  pass(Millis(200));
  load_mold();
  EXPECT_EQ(life_->ready_text(), "ok");
}

TEST_F(LifecycleTest, CountsAnOomKillAsTheWorkersOwnFault) {
  start_ready(1);
  for (int i = 0; i < 2; ++i) {
    world_->oom += 1;
    dies(current(0).id, kKilled);
    if (i == 0) boot_one();
  }
  EXPECT_TRUE(world_->forks.empty()) << "the second early death has a pause";
}

TEST_F(LifecycleTest, BacksOffInACrashLoopAndIsNotReady) {
  start_ready(1);
  dies(current(0).id, exited(1));
  boot_one();  // the first replacement starts at once
  pass(Millis(200));
  dies(current(0).id, exited(1));
  EXPECT_TRUE(world_->forks.empty());
  EXPECT_TRUE(life_->degraded());
  EXPECT_NE(life_->not_ready_reason(), "");
  pass(Millis(1000));
  ASSERT_EQ(world_->forks.size(), 1u);
  boot_one();
  EXPECT_TRUE(life_->degraded()) << "until it has lived for min_ready";
  EXPECT_NE(life_->not_ready_reason(), "");
  pass(Millis(1000));
  EXPECT_FALSE(life_->degraded());
  EXPECT_EQ(life_->not_ready_reason(), "");
}

TEST_F(LifecycleTest, GivesTheQueueOfASlotInBackOffToANeighbour) {
  start_ready(2);
  for (int i = 0; i < 2; ++i) {
    dies(current(1).id, kSegfault);
    if (i == 0) boot_one();
  }
  EXPECT_EQ(count_serving(), 1);
  expect_all_sockets_served();
  EXPECT_EQ(world_->active.back(), std::vector<int>{0});
  EXPECT_EQ(life_->not_ready_reason(), "") << "the other slot serves on";
}

TEST_F(LifecycleTest, TellsTheOthersToLookAtSharedSocketsWhenAWorkerEnds) {
  start_ready(2, /*shared=*/true);
  dies(current(1).id, kKilled);
  EXPECT_TRUE(was_sent(current(0).id, "try_accept"));
}

TEST_F(LifecycleTest, StartsAnotherMoldWhenItDies) {
  start_ready(1);
  mold_dies(newest_mold(), kKilled);
  pass(Millis(200));
  EXPECT_EQ(world_->mold_history.size(), 2u);
  load_mold();
  dies(current(0).id, kKilled);
  EXPECT_EQ(world_->forks.size(), 1u);
}

TEST_F(LifecycleTest, ForgetsWorkersThatTheirMoldTookWithIt) {
  start(1);
  load_mold();
  ASSERT_EQ(world_->forks.size(), 1u);
  world_->forks.clear();
  boot_all();
  mold_dies(newest_mold(), kKilled);
  EXPECT_EQ(world_->left, 4) << "the first start has failed";
  EXPECT_TRUE(world_->records.empty());
}

TEST_F(LifecycleTest, KillsAMoldThatDoesNotFork) {
  start_ready(1);
  dies(current(0).id, kKilled);
  ASSERT_EQ(world_->forks.size(), 1u);
  world_->forks.clear();
  pass(Millis(61'000));
  ASSERT_FALSE(world_->kills.empty());
  EXPECT_EQ(world_->kills.back().first, world_->mold_pids[newest_mold()]);
}

TEST_F(LifecycleTest, AScaleIsReachedByTheNextMoldWhenOneDiesWithItsWorkers) {
  start_ready(1);
  life_->scale(Lifecycle::ScaleTo{3}, noting(others_));
  ASSERT_EQ(world_->forks.size(), 2u);
  world_->forks.clear();
  mold_dies(newest_mold(), kKilled);
  EXPECT_TRUE(others_.empty());
  pass(Millis(200));
  load_mold();
  boot_all();
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_TRUE(others_[0].ok) << others_[0].message;
  EXPECT_EQ(count_serving(), 3);
}

TEST_F(LifecycleTest, AScaleIsNotReachedWhenTheNextMoldCanNotLoad) {
  start_ready(1);
  mold_dies(newest_mold(), kKilled);
  pass(Millis(200));
  life_->scale(Lifecycle::ScaleTo{3}, noting(others_));
  EXPECT_TRUE(others_.empty());
  fail_mold();
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_FALSE(others_[0].ok);
  ASSERT_TRUE(others_[0].failure);
  EXPECT_EQ(others_[0].failure->error, "SyntaxError");
  EXPECT_EQ(count_serving(), 1);
}

TEST_F(LifecycleTest, AScaleIsNotReachedWhenItsMoldDoesNotFork) {
  start_ready(1);
  life_->scale(Lifecycle::ScaleTo{2}, noting(others_));
  world_->forks.clear();
  pass(Millis(61'000));
  ASSERT_FALSE(world_->kills.empty());
  mold_dies(newest_mold(), kKilled);
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_FALSE(others_[0].ok);
}

TEST_F(LifecycleTest, TriesAgainWhenAWorkerCanNotBeForked) {
  start_ready(1);
  world_->fail_fork = true;
  dies(current(0).id, kKilled);
  EXPECT_TRUE(world_->forks.empty());
  world_->fail_fork = false;
  pass(Millis(1000));
  EXPECT_EQ(world_->forks.size(), 1u);
}

TEST_F(LifecycleTest, BacksOffWhenTheMoldSaysThatItCanNotFork) {
  start_ready(2);
  dies(current(0).id, kKilled);
  const auto asked = world_->forks.front();
  world_->forks.clear();
  life_->on_mold_message(asked.mold, ipc::ForkFailed{asked.order.worker, "out of memory"}, "");
  EXPECT_EQ(world_->forks.size(), 1u) << "the first failure has no pause";
}

TEST_F(LifecycleTest, WaitsWhenNoRecordIsFree) {
  start_ready(1);
  world_->records_free = -1;  // the dead worker's comes back: none is left
  dies(current(0).id, kKilled);
  EXPECT_TRUE(world_->forks.empty());
  world_->records_free = 1;
  pass(Millis(1000));
  EXPECT_EQ(world_->forks.size(), 1u);
}

TEST_F(LifecycleTest, KillsAWorkerThatClosedItsChannelAndStays) {
  start_ready(1);
  const Worker worker = current(0);
  life_->on_worker_channel_closed(worker.id);
  pass(Millis(3000));
  ASSERT_FALSE(world_->kills.empty());
  EXPECT_EQ(world_->kills.back(), std::make_pair(worker.pid, SIGKILL));
}

TEST_F(LifecycleTest, ReturnsEveryRecord) {
  start_ready(4);
  reload();
  load_mold();
  run_on();
  EXPECT_EQ(world_->records.size(), 4u);
}

// ---- reload

TEST_F(LifecycleTest, ProvesTheFirstNewWorkerWithoutSocketsAndThenReplacesAll) {
  start_ready(4);
  reload();
  ASSERT_TRUE(life_->reloading());
  load_mold();
  ASSERT_EQ(world_->forks.size(), 1u);
  const WorkerId first = boot_one();
  EXPECT_TRUE(world_->given[first].empty());
  EXPECT_TRUE(world_->forks.empty());
  pass(Millis(999));
  EXPECT_TRUE(world_->given[first].empty());
  pass(Millis(1));
  EXPECT_EQ(world_->given[first].size(), 1u);
  expect_all_sockets_served();
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_TRUE(reloads_[0].ok);
  EXPECT_EQ(generations(), (std::vector<int>{2, 2, 2, 2}));
  EXPECT_EQ(life_->reloads(), 1);
  expect_all_sockets_served();
}

TEST_F(LifecycleTest, NeverHasFewerServingWorkersThanWantedDuringAReload) {
  start_ready(8);
  reload();
  load_mold();
  for (int i = 0; i < 100 && life_->reloading(); ++i) {
    EXPECT_GE(count_serving(), 8);
    expect_all_sockets_served();
    if (!world_->forks.empty()) boot_one();
    EXPECT_LE(world_->forks.size(), 2u) << "batches of a quarter";
    leavers_leave();
    pass(Millis(100));
  }
  EXPECT_EQ(reloads_.size(), 1u);
}

TEST_F(LifecycleTest, KeepsTheOldMoldUntilTheReloadIsFinal) {
  start_ready(1);
  const MoldId old_mold = newest_mold();
  reload();
  load_mold();
  boot_one();
  pass(Millis(1000));
  EXPECT_FALSE(world_->released_molds.contains(old_mold));
  pass(Millis(1000));
  EXPECT_TRUE(world_->released_molds.contains(old_mold));
  EXPECT_EQ(reloads_.size(), 1u);
}

TEST_F(LifecycleTest, RefusesAReloadWithABadConfigurationAndTouchesNothing) {
  start_ready(2);
  bad_configuration_ = true;
  reload();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_FALSE(reloads_[0].ok);
  EXPECT_EQ(reloads_[0].failure->stage, "configuration");
  EXPECT_EQ(world_->mold_history.size(), 1u);
  EXPECT_EQ(generations(), (std::vector<int>{1, 1}));
}

TEST_F(LifecycleTest, RefusesASecondReloadWhileOneIsUnderWay) {
  start_ready(1);
  reload();
  reload();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_TRUE(reloads_[0].conflict);
}

TEST_F(LifecycleTest, AReloadThatMayWaitFollowsTheOneThatIsUnderWay) {
  start_ready(1);
  reload();
  reload(Lifecycle::WhileReloading::wait);
  EXPECT_EQ(prepared_, 1) << "it reads the files when its turn has come";
  load_mold();
  boot_all();
  pass(Millis(5000));
  EXPECT_EQ(prepared_, 2);
  load_mold();
  run_on();
  ASSERT_EQ(reloads_.size(), 2u);
  EXPECT_TRUE(reloads_[0].ok && reloads_[1].ok);
  EXPECT_EQ(generations(), (std::vector<int>{3}));
}

TEST_F(LifecycleTest, AReloadThatMayWaitFollowsOneThatFailsToo) {
  start_ready(1);
  reload();
  reload(Lifecycle::WhileReloading::wait);
  fail_mold();
  EXPECT_EQ(prepared_, 2);
  load_mold();
  run_on();
  ASSERT_EQ(reloads_.size(), 2u);
  EXPECT_FALSE(reloads_[0].ok);
  EXPECT_TRUE(reloads_[1].ok);
}

TEST_F(LifecycleTest, OneReloadThatWaitsIsEnough) {
  start_ready(1);
  reload();
  for (int i = 0; i < 3; ++i) reload(Lifecycle::WhileReloading::wait);
  ASSERT_EQ(reloads_.size(), 2u);
  EXPECT_TRUE(reloads_[0].ok && reloads_[0].conflict);
  reload();
  ASSERT_EQ(reloads_.size(), 3u);
  EXPECT_FALSE(reloads_[2].ok);
  for (int i = 0; i < 2; ++i) {
    load_mold();
    boot_all();
    pass(Millis(5000));
  }
  EXPECT_FALSE(life_->reloading());
  EXPECT_EQ(prepared_, 2);
}

TEST_F(LifecycleTest, ServesOnWhenTheNewCodeDoesNotLoad) {
  start_ready(2);
  reload();
  fail_mold();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_FALSE(reloads_[0].ok);
  EXPECT_EQ(reloads_[0].failure->stage, "import");
  EXPECT_EQ(reloads_[0].failure->detail, "Traceback …");
  EXPECT_EQ(generations(), (std::vector<int>{1, 1}));
  EXPECT_FALSE(life_->last_reload()->ok);
  EXPECT_EQ(life_->not_ready_reason(), "");
}

TEST_F(LifecycleTest, ServesOnWhenTheNewLifespanFails) {
  start_ready(2);
  reload();
  load_mold();
  boot_fails(fork_one());
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_EQ(reloads_[0].failure->stage, "lifespan");
  EXPECT_EQ(generations(), (std::vector<int>{1, 1}));
  EXPECT_EQ(life_->slots()[0].restarts, 0);
  EXPECT_EQ(life_->slots()[0].last_exit, "");
}

TEST_F(LifecycleTest, TellsTheLastWordsOfANewWorkerAndOfANewMold) {
  start_ready(2);
  world_->last_words = "Fatal Python error: Segmentation fault";
  reload();
  load_mold();
  dies(fork_one(), SIGSEGV);
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_EQ(reloads_[0].failure->detail, world_->last_words);
  reload();
  mold_dies(world_->mold_history.back(), SIGSEGV);
  ASSERT_EQ(reloads_.size(), 2u);
  EXPECT_EQ(reloads_[1].failure->detail, world_->last_words);
}

TEST_F(LifecycleTest, ServesOnWhenTheNewLifespanHangs) {
  start_ready(2);
  reload();
  load_mold();
  const WorkerId first = fork_one();
  pass(Millis(60'500));
  dies(first, kKilled);
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_EQ(reloads_[0].failure->stage, "lifespan");
  EXPECT_EQ(generations(), (std::vector<int>{1, 1}));
}

TEST_F(LifecycleTest, ServesOnWhenTheFirstNewWorkerDiesInItsProbation) {
  start_ready(2);
  reload();
  load_mold();
  const WorkerId first = boot_one();
  pass(Millis(200));
  dies(first, exited(1));
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_EQ(reloads_[0].failure->stage, "ready");
  EXPECT_TRUE(world_->given[first].empty());
  EXPECT_EQ(generations(), (std::vector<int>{1, 1}));
  EXPECT_FALSE(life_->degraded());
}

TEST_F(LifecycleTest, RollsFinishedSlotsBackFromTheOldMold) {
  start_ready(4);
  reload();
  load_mold();
  boot_one();
  pass(Millis(1000));                  // slot 0 is replaced
  const WorkerId second = boot_one();  // slot 1
  leavers_leave();
  dies(second, kSegfault);
  EXPECT_TRUE(life_->reloading()) << "until there is one generation again";
  expect_all_sockets_served();
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_FALSE(reloads_[0].ok);
  EXPECT_EQ(generations(), (std::vector<int>{1, 1, 1, 1}));
  for (const auto& [id, worker] : life_->workers()) EXPECT_EQ(worker.number, 1);
  expect_all_sockets_served();
}

TEST_F(LifecycleTest, HoldsReplacedWorkersWithoutPreloadAndWakesThemOnRollback) {
  settings_.preload = PreloadMode::off;
  start_ready(2);
  const WorkerId old_first = current(0).id;
  const WorkerId old_second = current(1).id;
  reload();
  load_mold();
  const WorkerId first = boot_one();
  pass(Millis(1000));
  EXPECT_EQ(life_->worker(old_first)->state, WorkerState::held);
  EXPECT_TRUE(was_sent(old_first, "hold"));
  expect_all_sockets_served();
  dies(first, kSegfault);
  EXPECT_EQ(life_->worker(old_first)->state, WorkerState::serving);
  expect_all_sockets_served();
  run_on();
  EXPECT_EQ(current(0).id, old_first);
  EXPECT_EQ(current(1).id, old_second);
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_FALSE(reloads_[0].ok);
  EXPECT_EQ(world_->forks.size(), 0u) << "nothing was loaded from the changed files";
}

TEST_F(LifecycleTest, LetsHeldWorkersGoWhenTheReloadIsFinal) {
  settings_.preload = PreloadMode::off;
  start_ready(2);
  reload();
  load_mold();
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_TRUE(reloads_[0].ok);
  leavers_leave();
  EXPECT_EQ(life_->workers().size(), 2u);
  EXPECT_EQ(generations(), (std::vector<int>{2, 2}));
}

TEST_F(LifecycleTest, TheNextReloadAfterAFailedOneSucceeds) {
  start_ready(2);
  reload();
  fail_mold();
  reload();
  load_mold();
  run_on();
  ASSERT_EQ(reloads_.size(), 2u);
  EXPECT_TRUE(reloads_[1].ok);
  EXPECT_EQ(generations(), (std::vector<int>{2, 2}));
}

TEST_F(LifecycleTest, AnOldWorkerThatDiesDuringAReloadIsReplacedFromItsOwnGeneration) {
  start_ready(4);
  const MoldId old_mold = newest_mold();
  reload();
  load_mold();
  boot_one();
  dies(current(3).id, kKilled);
  ASSERT_EQ(world_->forks.size(), 1u);
  EXPECT_EQ(world_->forks.front().mold, old_mold);
  run_on();
  EXPECT_EQ(generations(), (std::vector<int>{2, 2, 2, 2}));
  EXPECT_TRUE(reloads_.at(0).ok);
}

TEST_F(LifecycleTest, AGoodReloadEndsACrashLoop) {
  start_ready(1);
  for (int i = 0; i < 6; ++i) {
    dies(current(0).id, exited(1));
    pass(Millis(70'000));
    boot_all();
  }
  dies(current(0).id, exited(1));
  ASSERT_TRUE(world_->forks.empty());
  reload();
  load_mold();
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_TRUE(reloads_[0].ok);
  EXPECT_FALSE(life_->degraded());
}

TEST_F(LifecycleTest, EndsARollbackWhoseOldMoldDiedAndCanNotBeLoadedAgain) {
  start_ready(2);
  const MoldId old_mold = newest_mold();
  reload();
  const MoldId new_mold = newest_mold();
  mold_dies(old_mold, kKilled);
  dies(current(1).id, kKilled);
  life_->on_mold_message(new_mold, ipc::LoadFailed{"import", "SyntaxError", 4}, "Traceback …");
  life_->on_exit(world_->mold_pids[new_mold], exited(4));
  EXPECT_TRUE(reloads_.empty()) << "the old mold may still come back";
  for (int i = 0; i < 3; ++i) {
    pass(Millis(2500));
    if (newest_mold() != new_mold && life_->molds().contains(newest_mold())) fail_mold();
  }
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_FALSE(reloads_[0].ok);
  EXPECT_EQ(current(0).number, 1) << "it serves on";
  EXPECT_TRUE(life_->degraded());
  reload();  // with code that is mended
  load_mold();
  run_on();
  ASSERT_EQ(reloads_.size(), 2u);
  EXPECT_TRUE(reloads_[1].ok);
  EXPECT_FALSE(life_->degraded());
  EXPECT_EQ(generations(), (std::vector<int>{2, 2}));
}

TEST_F(LifecycleTest, AppliesAChangedNumberOfWorkersAfterTheReload) {
  start_ready(1);
  new_workers_ = 3;
  reload();
  load_mold();
  run_on();
  EXPECT_EQ(life_->target(), 3);
  EXPECT_EQ(generations(), (std::vector<int>{2, 2, 2}));
}

TEST_F(LifecycleTest, ScalesOnlyAfterTheReloadThatIsUnderWay) {
  start_ready(2);
  reload();
  life_->scale(Lifecycle::ScaleTo{4}, noting(others_));
  EXPECT_EQ(life_->target(), 2);
  load_mold();
  run_on();
  EXPECT_EQ(reloads_.size(), 1u);
  boot_all();
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_TRUE(others_[0].ok);
  EXPECT_EQ(generations(), (std::vector<int>{2, 2, 2, 2}));
}

// ---- restart, scale

TEST_F(LifecycleTest, RestartReplacesOneWorkerAtATimeWithinTheGeneration) {
  start_ready(2);
  const WorkerId old_first = current(0).id;
  life_->restart({}, noting(others_));
  EXPECT_EQ(world_->forks.size(), 1u);
  EXPECT_EQ(count_serving(), 2);
  run_on();
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_TRUE(others_[0].ok);
  EXPECT_NE(current(0).id, old_first);
  EXPECT_EQ(generations(), (std::vector<int>{1, 1}));
}

TEST_F(LifecycleTest, RestartRefusesASlotThatIsNotThere) {
  start_ready(2);
  life_->restart({2}, noting(others_));
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_FALSE(others_[0].ok);
}

TEST_F(LifecycleTest, RestartKeepsTheOldWorkerWhenTheNewOneDoesNotStart) {
  start_ready(2);
  const WorkerId old_first = current(0).id;
  life_->restart({0}, noting(others_));
  boot_fails(fork_one());
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_FALSE(others_[0].ok);
  EXPECT_EQ(current(0).id, old_first);
  EXPECT_EQ(count_serving(), 2);
  pass(Millis(120'000));
  EXPECT_TRUE(world_->forks.empty());
}

TEST_F(LifecycleTest, ScaleUpWaitsUntilTheNewWorkersServe) {
  start_ready(2);
  life_->scale(Lifecycle::ScaleTo{4}, noting(others_));
  boot_one();
  EXPECT_TRUE(others_.empty());
  boot_one();
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_TRUE(others_[0].ok);
  EXPECT_EQ(world_->active.back(), (std::vector<int>{0, 1, 2, 3}));
  expect_all_sockets_served();
}

TEST_F(LifecycleTest, ScaleDownParksSocketsWithTheNeighboursBeforeTheWorkersLeave) {
  start_ready(4);
  const WorkerId last = current(3).id;
  life_->scale(Lifecycle::ScaleBy{-3}, noting(others_));
  EXPECT_EQ(world_->active.back(), std::vector<int>{0});
  expect_all_sockets_served();
  EXPECT_TRUE(was_sent(last, "drain"));
  EXPECT_TRUE(others_.empty()) << "they have not stopped accepting yet";
  leavers_leave();
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_TRUE(others_[0].ok);
  EXPECT_EQ(life_->workers().size(), 1u);
  expect_all_sockets_served();
}

TEST_F(LifecycleTest, ScaleUpAgainTakesTheParkedSocketsBack) {
  start_ready(4);
  life_->scale(Lifecycle::ScaleTo{1}, noting(others_));
  leavers_leave();
  life_->scale(Lifecycle::ScaleTo{4}, noting(others_));
  boot_all();
  EXPECT_EQ(world_->socket_infos.size(), 4u);
  EXPECT_EQ(world_->given[current(0).id].size(), 1u);
  expect_all_sockets_served();
}

TEST_F(LifecycleTest, ScaleRefusesWhatIsOutOfRange) {
  start_ready(2);
  life_->scale(Lifecycle::ScaleBy{-2}, noting(others_));
  life_->scale(Lifecycle::ScaleBy{-99}, noting(others_));
  life_->scale(Lifecycle::ScaleTo{513}, noting(others_));
  ASSERT_EQ(others_.size(), 3u);
  for (const auto& outcome : others_) EXPECT_FALSE(outcome.ok);
  EXPECT_EQ(life_->target(), 2);
}

TEST_F(LifecycleTest, ScaleIsRefusedWhenSocketsCanNotBeMade) {
  start_ready(1);
  world_->fail_slots = true;
  life_->scale(Lifecycle::ScaleTo{2}, noting(others_));
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_FALSE(others_[0].ok);
  EXPECT_EQ(life_->target(), 1);
}

TEST_F(LifecycleTest, ScaleSaysWhenANewWorkerDoesNotStart) {
  start_ready(1);
  life_->scale(Lifecycle::ScaleTo{2}, noting(others_));
  boot_fails(fork_one());
  ASSERT_EQ(others_.size(), 1u);
  EXPECT_FALSE(others_[0].ok);
  EXPECT_EQ(others_[0].failure->stage, "lifespan");
}

// ---- stop

TEST_F(LifecycleTest, StopsListeningWhenEveryWorkerHasStoppedAccepting) {
  start_ready(2);
  const WorkerId first = current(0).id;
  const WorkerId second = current(1).id;
  life_->stop(Lifecycle::Stop::graceful);
  life_->on_worker_message(first, ipc::StoppedAccepting{}, "");
  EXPECT_FALSE(world_->closed);
  life_->on_worker_message(second, ipc::StoppedAccepting{}, "");
  EXPECT_TRUE(world_->closed);
  EXPECT_EQ(world_->left, std::nullopt);
  leavers_leave();
  EXPECT_EQ(world_->left, 0);
}

TEST_F(LifecycleTest, KillsWhatHasNotLeftWithinTheGracefulTimeout) {
  start_ready(1);
  const Worker worker = current(0);
  life_->stop(Lifecycle::Stop::graceful);
  pass(Millis(30'500));
  EXPECT_FALSE(
      std::count(world_->kills.begin(), world_->kills.end(), std::make_pair(worker.pid, SIGKILL)));
  pass(Millis(1000));
  EXPECT_TRUE(
      std::count(world_->kills.begin(), world_->kills.end(), std::make_pair(worker.pid, SIGKILL)));
  dies(worker.id, kKilled);
  leavers_leave();
  EXPECT_EQ(world_->left, 0);
}

TEST_F(LifecycleTest, ASecondSigtermIsAQuickStop) {
  start_ready(1);
  const WorkerId worker = current(0).id;
  life_->terminate();
  EXPECT_TRUE(was_sent(worker, "drain"));
  EXPECT_FALSE(was_sent(worker, "quit"));
  life_->terminate();
  EXPECT_TRUE(was_sent(worker, "quit"));
}

TEST_F(LifecycleTest, AGracefulStopCutsNothingHoweverOftenItIsAskedFor) {
  start_ready(1);
  const WorkerId worker = current(0).id;
  life_->stop(Lifecycle::Stop::graceful);
  life_->stop(Lifecycle::Stop::graceful);
  life_->terminate();
  EXPECT_FALSE(was_sent(worker, "quit"));
  const auto& sent = world_->sent[worker];
  EXPECT_EQ(std::count(sent.begin(), sent.end(), "drain"), 1);
  life_->stop(Lifecycle::Stop::quick);
  EXPECT_TRUE(was_sent(worker, "quit"));
}

TEST_F(LifecycleTest, WhileItStopsNoSlotIsActive) {
  start_ready(2);
  EXPECT_TRUE(life_->active(life_->slots()[1]));
  life_->stop(Lifecycle::Stop::graceful);
  EXPECT_FALSE(life_->active(life_->slots()[0]));
  EXPECT_FALSE(life_->active(life_->slots()[1]));
  dies(current(1).id, exited(0));
  EXPECT_FALSE(life_->active(life_->slots()[1])) << "it is not about to start";
}

TEST_F(LifecycleTest, AStopTellsThoseThatLeaveAlreadyThatNobodyFollows) {
  start_ready(2);
  const WorkerId leaving = current(1).id;
  life_->scale(Lifecycle::ScaleTo{1}, noting(others_));
  EXPECT_EQ(std::ranges::count(world_->sent[leaving], "drain"), 1);
  life_->stop(Lifecycle::Stop::graceful);
  EXPECT_EQ(std::ranges::count(world_->sent[leaving], "drain"), 2);
  leavers_leave();
  EXPECT_EQ(world_->left, 0);
}

TEST_F(LifecycleTest, ServesOnForDrainDelayWithReadinessFailing) {
  settings_.drain_delay = Millis(5000);
  start_ready(1);
  const WorkerId worker = current(0).id;
  life_->stop(Lifecycle::Stop::graceful);
  EXPECT_EQ(life_->phase(), Phase::draining);
  EXPECT_EQ(life_->not_ready_reason(), "stopping");
  EXPECT_TRUE(was_sent(worker, "close_after_response"));
  EXPECT_FALSE(was_sent(worker, "drain"));
  pass(Millis(5000));
  EXPECT_TRUE(was_sent(worker, "drain"));
}

TEST_F(LifecycleTest, AStopInterruptsAReload) {
  start_ready(2);
  reload();
  load_mold();
  boot_one();
  life_->stop(Lifecycle::Stop::graceful);
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_FALSE(reloads_[0].ok);
  leavers_leave();
  EXPECT_EQ(world_->left, 0);
  EXPECT_TRUE(world_->records.empty());
}

TEST_F(LifecycleTest, RefusesChangesWhileItStops) {
  start_ready(1);
  life_->stop(Lifecycle::Stop::graceful);
  life_->scale(Lifecycle::ScaleTo{3}, noting(others_));
  life_->restart({}, noting(others_));
  reload();
  ASSERT_EQ(others_.size(), 2u);
  EXPECT_FALSE(others_[0].ok);
  EXPECT_FALSE(others_[1].ok);
  EXPECT_FALSE(reloads_.at(0).ok);
}

TEST_F(LifecycleTest, AWorkerThatNeverGotReadyIsToldToQuit) {
  start(1);
  load_mold();
  const WorkerId worker = fork_one();
  life_->stop(Lifecycle::Stop::graceful);
  EXPECT_TRUE(was_sent(worker, "quit"));
  dies(worker, exited(0));
  leavers_leave();
  EXPECT_EQ(world_->left, 0);
}

TEST_F(LifecycleTest, ItsOwnStopIsNotTakenForTheSilenceOfOthers) {
  // The clock of the World does not move while the supervisor is stopped: see active_clock_test.
  start(1);
  load_mold();
  fork_one();
  EXPECT_EQ(world_->wake, world_->time + Millis(60'000));
}

}  // namespace
}  // namespace mgr::manager
