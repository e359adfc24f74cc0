#include "manager/supervisor/restarts.h"

#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

class Restarts : public LifecycleTest {
 protected:
  using Counts = std::map<std::string, std::uint64_t>;
  // Those that are not zero.
  Counts counts() const {
    Counts counts;
    for (std::size_t i = 0; i < kRestartReasons; ++i) {
      const std::uint64_t count = life_->restarts()[i];
      if (count > 0) counts[std::string(to_string(static_cast<RestartReason>(i)))] = count;
    }
    return counts;
  }
};

TEST(Ending, has_the_reason_that_its_status_tells) {
  EXPECT_EQ(ending_of(exited(1), 0, 0).reason, RestartReason::exit);
  EXPECT_EQ(ending_of(exited(0), 0, 0).reason, RestartReason::exit);
  EXPECT_TRUE(ending_of(exited(0), 0, 0).clean);
  EXPECT_FALSE(ending_of(exited(1), 0, 0).clean);
  EXPECT_EQ(ending_of(kSegfault, 0, 1).reason, RestartReason::signal);
  EXPECT_EQ(ending_of(kKilled, 4, 5).reason, RestartReason::oom);
  EXPECT_EQ(ending_of(kKilled, 4, 4).reason, RestartReason::killed);
  EXPECT_EQ(ending_of(kKilled, -1, 5).reason, RestartReason::killed);
}

TEST(Ending, is_no_fault_of_a_worker_only_where_somebody_killed_it_and_the_kernel_did_not) {
  EXPECT_TRUE(ending_of(kKilled, 4, 4).outside);
  EXPECT_FALSE(ending_of(kKilled, 4, 5).outside);
  EXPECT_FALSE(ending_of(kKilled, -1, -1).outside);
  EXPECT_FALSE(ending_of(kSegfault, 4, 4).outside);
}

TEST(Ending, by_the_oom_killer_says_so) {
  EXPECT_EQ(ending_of(kKilled, 4, 5).how,
            "killed by signal 9 (Killed) by the kernel's OOM killer: out of memory");
  EXPECT_EQ(ending_of(kKilled, 4, 4).how, "killed by signal 9 (Killed)");
}

TEST_F(Restarts, EachOomKillIsToldAsOneEnd) {
  start_ready(3);
  world_->oom = 2;  // both before either was reaped
  dies(current(0).id, kKilled);
  dies(current(1).id, kKilled);
  dies(current(2).id, kKilled);
  EXPECT_EQ(counts(), (Counts{{"oom", 2}, {"killed", 1}}));
  EXPECT_NE(life_->slots()[1].last_exit.find("OOM killer"), std::string::npos);
  EXPECT_EQ(life_->slots()[2].last_exit, "killed by signal 9 (Killed)");
}

TEST_F(Restarts, TellWhereTheCoreDumpIs) {
  start_ready(1);
  world_->core = "/srv/app/core.100";
  dies(current(0).id, kSegfault);
  EXPECT_EQ(life_->slots()[0].last_exit, "killed by signal 11 (Segmentation fault)");
  boot_all();
  dies(current(0).id, kSegfault | 0x80);
  EXPECT_EQ(life_->slots()[0].last_exit,
            "killed by signal 11 (Segmentation fault), core dumped: /srv/app/core.100");
}

TEST_F(Restarts, AreCountedByHowAWorkerDied) {
  start_ready(1);
  EXPECT_EQ(counts(), Counts{});
  const auto die_and_come_back = [&](int status) {
    dies(current(0).id, status);
    pass(Millis(120'000));
    boot_all();
    pass(Millis(120'000));
  };
  die_and_come_back(exited(1));
  die_and_come_back(kSegfault);
  die_and_come_back(kKilled);
  world_->oom += 1;
  die_and_come_back(kKilled);
  EXPECT_EQ(counts(), (Counts{{"exit", 1}, {"signal", 1}, {"killed", 1}, {"oom", 1}}));
}

TEST_F(Restarts, ByAReloadAreCountedWhenTheReplacedHaveLeft) {
  start_ready(3);
  reload();
  load_mold();
  run_on();
  EXPECT_EQ(counts(), (Counts{{"reload", 3}}));
  EXPECT_EQ(life_->reloads(), 1);
}

TEST_F(Restarts, ByMgrRestartAreThatReason) {
  start_ready(3);
  life_->restart({0, 2}, noting(others_));
  run_on();
  EXPECT_EQ(counts(), (Counts{{"restart", 2}}));
}

TEST_F(Restarts, DoNotCountWorkersThatLeaveByAScaleOrAStop) {
  start_ready(3);
  life_->scale(Lifecycle::ScaleTo{1}, noting(others_));
  run_on();
  life_->stop(Lifecycle::Stop::graceful);
  leavers_leave();
  EXPECT_EQ(counts(), Counts{});
}

TEST_F(Restarts, OfAWorkerThatDidNotLeaveInTimeAreThatAndNotTheReload) {
  start_ready(1);
  const WorkerId old = current(0).id;
  reload();
  load_mold();
  boot_all();
  pass(Millis(5000));
  boot_all();
  pass(settings_.graceful_timeout + Millis(20'000));
  ASSERT_TRUE(life_->worker(old));
  dies(old, kKilled);
  EXPECT_EQ(counts(), (Counts{{"graceful_timeout", 1}}));
}

TEST_F(Restarts, OfAWorkerThatCrashesWhileItLeavesAreTheCrash) {
  start_ready(1);
  const WorkerId old = current(0).id;
  life_->restart({}, noting(others_));
  boot_all();
  dies(old, kSegfault);
  EXPECT_EQ(counts(), (Counts{{"signal", 1}}));
}

TEST_F(Restarts, NameWhatKeptAWorkerFromBecomingReady) {
  start_ready(1);
  dies(current(0).id, kKilled);
  boot_fails(fork_one());
  pass(Millis(5000));
  const WorkerId hung = fork_one();
  pass(settings_.boot_timeout + Millis(10));
  dies(hung, kKilled);
  pass(Millis(5000));
  ASSERT_FALSE(world_->forks.empty());
  const auto asked = world_->forks.front();
  world_->forks.pop_front();
  life_->on_mold_message(asked.mold, ipc::ForkFailed{asked.order.worker, "no memory"}, "");
  EXPECT_EQ(counts(),
            (Counts{{"killed", 1}, {"boot_failed", 1}, {"boot_timeout", 1}, {"not_forked", 1}}));
}

TEST_F(Restarts, DoNotCountTheFirstWorkerOfAReloadThatFails) {
  start_ready(2);
  reload();
  load_mold();
  boot_fails(fork_one());
  run_on();
  EXPECT_EQ(counts(), Counts{});
  EXPECT_EQ(life_->reloads_rolled_back(), 1);
  EXPECT_EQ(life_->reloads(), 0);
}

TEST_F(Restarts, CountTheWayBackOfAReloadToo) {
  start_ready(4);
  reload();
  load_mold();
  boot_all();
  pass(Millis(1500));  // the first is replaced
  leavers_leave();
  ASSERT_EQ(counts(), (Counts{{"reload", 1}}));
  boot_fails(fork_one());
  run_on();
  EXPECT_EQ(life_->reloads_rolled_back(), 1);
  EXPECT_EQ(counts(), (Counts{{"reload", 2}})) << "forth and back";
}

TEST_F(Restarts, OfHeldWorkersThatReturnAreNone) {
  settings_.preload = PreloadMode::off;
  start_ready(4);
  const WorkerId first = current(0).id;
  reload();
  load_mold();
  boot_all();
  pass(Millis(1500));
  ASSERT_EQ(life_->worker(first)->state, WorkerState::held);
  boot_fails(fork_one());
  run_on();
  EXPECT_EQ(current(0).id, first);
  EXPECT_EQ(counts(), (Counts{{"reload", 1}})) << "the new one that had taken its place";
  dies(first, kSegfault);
  EXPECT_EQ(counts(), (Counts{{"reload", 1}, {"signal", 1}}));
}

TEST_F(Restarts, ReloadsThatDoNotBeginAreCountedAsRefused) {
  start_ready(1);
  bad_configuration_ = true;
  reload();
  EXPECT_EQ(life_->reloads_refused(), 1);
  bad_configuration_ = false;
  reload();
  reload();
  EXPECT_EQ(life_->reloads_refused(), 2) << "one is under way";
  life_->stop(Lifecycle::Stop::graceful);
  EXPECT_EQ(life_->reloads_refused(), 3) << "interrupted";
  reload();
  EXPECT_EQ(life_->reloads_refused(), 4) << "stopping";
  EXPECT_EQ(life_->reloads(), 0);
  EXPECT_EQ(life_->reloads_rolled_back(), 0);
}

}  // namespace
}  // namespace mgr::manager
