#include "manager/supervisor/hangs.h"

#include <signal.h>

#include "tests/manager/supervisor/lifecycle_support.h"

namespace mgr::manager {
namespace {

// ---- the account of one loop

constexpr Millis kTimeout{30'000};

// A worker's loop in a run that began at 1000, and what its threads use.
class Account {
 public:
  Account() {
    watch_.see(Millis(1000), {});
    uses_ = {ThreadUse{10, 'S', Millis(500), Millis(0)}, ThreadUse{11, 'S', Millis(50), Millis(0)}};
  }
  ThreadUse& loop() { return uses_[0]; }
  ThreadUse& other() { return uses_[1]; }
  // So much time passes, and the kernel's account is read if it is wanted.
  Account& pass(Millis time, Millis timeout = kTimeout) {
    now_ += time;
    watch_.see(now_, {7, now_ - Millis(1000)});
    if (watch_.wants_uses(timeout)) {
      watch_.count(uses_);
      ++counts_;
    }
    return *this;
  }
  const LoopWatch& watch() const { return watch_; }
  int counts() const { return counts_; }

 private:
  LoopWatch watch_;
  Millis now_{1000};
  std::vector<ThreadUse> uses_;
  int counts_ = 0;
};

TEST(LoopWatch, ALoopThatWaitsOrTurnsIsNeverBlocked) {
  LoopWatch watch;
  for (int i = 1; i < 1000; ++i) {
    watch.see(Millis(i * 1000), {static_cast<std::uint64_t>(i % 3), Millis(900)});
    EXPECT_LE(watch.lasts(), Millis(900));
    EXPECT_EQ(watch.blocked(), Millis(0));
  }
  watch.see(Millis(2'000'000), {});
  EXPECT_FALSE(watch.runs_long());
}

TEST(LoopWatch, ALongRunIsOneOfMoreThanATenthOfASecond) {
  Account account;
  EXPECT_FALSE(account.pass(Millis(100)).watch().runs_long());
  EXPECT_TRUE(account.pass(Millis(1)).watch().runs_long());
}

TEST(LoopWatch, ALoopThatSleepsInItsCallbackIsBlockedAllTheTime) {
  Account account;
  account.pass(Millis(200));
  for (int i = 0; i < 100; ++i) account.pass(Millis(300));
  EXPECT_GE(account.watch().blocked(), Millis(28'700));
  EXPECT_EQ(account.watch().excused(), Millis(0));
}

TEST(LoopWatch, OneThatComputesIsBlockedAllTheTime) {
  Account account;
  account.pass(Millis(200));
  for (int i = 0; i < 20; ++i) {
    account.loop() = {10, 'R', account.loop().ran + Millis(1500), Millis(0)};
    account.pass(Millis(1500));
  }
  EXPECT_EQ(account.watch().blocked(), Millis(30'200));
}

TEST(LoopWatch, WaitingForACpuIsExcused) {
  Account account;
  account.pass(Millis(200));
  for (int i = 1; i <= 20; ++i) {
    account.loop() = {10, 'R', account.loop().ran + Millis(200), Millis(1400 * i)};
    account.pass(Millis(1600));
  }
  EXPECT_EQ(account.watch().blocked(), Millis(200 + 20 * 200));
  EXPECT_EQ(account.watch().excused(), Millis(20 * 1400));
  EXPECT_EQ(account.watch().lasts(), Millis(200 + 20 * 1600));
}

TEST(LoopWatch, OneThatGetsNoCpuAtAllIsExcusedBeforeTheKernelCountsTheWait) {
  Account account;
  account.loop().state = 'R';
  account.pass(Millis(200));
  account.pass(Millis(60'000));
  EXPECT_EQ(account.watch().blocked(), Millis(200));
  account.loop().waited = Millis(60'000);
  account.loop().ran += Millis(1);
  account.pass(Millis(2000));
  EXPECT_EQ(account.watch().blocked(), Millis(201)) << "of that time nothing is left over";
}

TEST(LoopWatch, WhatAHypervisorTookAwayIsExcused) {
  Account account;
  account.loop().state = 'R';
  account.pass(Millis(200));
  for (int i = 1; i <= 10; ++i) {
    account.loop() = {10, 'R', account.loop().ran + Millis(200), Millis(1000 * i)};
    account.pass(Millis(1600));
  }
  EXPECT_EQ(account.watch().blocked(), Millis(200 + 10 * 200));
}

TEST(LoopWatch, WhatAnyThreadWaitedForIsExcusedAsItMayHoldTheGil) {
  Account account;
  account.pass(Millis(200));
  account.other() = {11, 'R', Millis(550), Millis(1500)};
  account.pass(Millis(2000));
  EXPECT_EQ(account.watch().blocked(), Millis(200 + 500));
}

TEST(LoopWatch, AThreadThatHasComeSinceTheLastCountExcusesNothing) {
  Account account;
  account.pass(Millis(200));
  account.other() = {12, 'R', Millis(550), Millis(1500)};
  account.pass(Millis(2000));
  EXPECT_EQ(account.watch().blocked(), Millis(2200));
}

TEST(LoopWatch, TheTimeInWhichItIsStoppedIsExcused) {
  for (const char state : {'T', 't'}) {
    Account account;
    account.pass(Millis(200));
    account.loop().state = state;
    account.pass(Millis(60'000));
    EXPECT_EQ(account.watch().blocked(), Millis(200)) << state;
    account.loop().state = 'S';
    account.pass(Millis(2000));
    EXPECT_EQ(account.watch().blocked(), Millis(2200)) << state;
  }
}

TEST(LoopWatch, WithoutTheKernelsAccountWhatItDidNotRunIsExcusedWhileItCould) {
  Account account;
  account.loop() = {10, 'R', Millis(500), {}};
  account.pass(Millis(200));
  account.loop().ran = Millis(700);
  account.pass(Millis(2000));
  EXPECT_EQ(account.watch().blocked(), Millis(200 + 200));
  account.loop().state = 'S';
  account.pass(Millis(2000));
  EXPECT_EQ(account.watch().blocked(), Millis(400 + 2000));
}

TEST(LoopWatch, TheUsesAreReadTwentyTimesInATimeoutAndNotInShortRuns) {
  Account account;
  account.pass(Millis(50)).pass(Millis(50));
  EXPECT_EQ(account.counts(), 0);
  for (int i = 0; i < 300; ++i) account.pass(Millis(100));
  EXPECT_EQ(account.counts(), 20);
}

TEST(LoopWatch, ANewRunBeginsANewAccount) {
  Account account;
  account.pass(Millis(200)).pass(Millis(5000));
  EXPECT_EQ(account.watch().blocked(), Millis(5200));
  LoopWatch watch = account.watch();
  watch.see(Millis(6300), {8, Millis(20)});
  EXPECT_EQ(watch.lasts(), Millis(20));
  EXPECT_EQ(watch.blocked(), Millis(0));
}

TEST(LoopWatch, TheAgeThatTheSupervisorSleptThroughIsNotCounted) {
  LoopWatch watch;
  watch.see(Millis(1000), {});
  // Its clock stood still for an hour; the worker's run is as old.
  watch.see(Millis(1100), {7, Millis(3'600'000)});
  EXPECT_EQ(watch.lasts(), Millis(100));
  LoopWatch fresh;
  fresh.see(Millis(1000), {7, Millis(3'600'000)});
  EXPECT_EQ(fresh.lasts(), Millis(0));
}

// ---- what the supervisor does about it

class HangTest : public LifecycleTest {
 protected:
  HangTest() { settings_.timeout = Millis(30'000); }

  // From now on the loop of the slot's worker runs one callback.
  WorkerId block(int slot) {
    world_->running_since[current(slot).record] = world_->time;
    return current(slot).id;
  }
  void turn(WorkerId id) { world_->running_since.erase(life_->worker(id)->record); }
  // Time passes, with looks at the pace that was asked for.
  void watch(Millis time) {
    const Millis end = world_->time + time;
    while (world_->look_period.count() > 0 && world_->time + world_->look_period <= end) {
      world_->time += world_->look_period;
      if (world_->wake <= world_->time) life_->on_time();
      life_->on_look();
    }
    world_->time = end;
  }
  void answer_stacks(const Result<std::string>& stack = std::string("File \"main.py\"\n")) {
    for (auto& asked : std::exchange(world_->stacks, {})) asked.done(stack);
  }
  SlotState state(int slot) const {
    return life_->state_of(life_->slots()[static_cast<std::size_t>(slot)]);
  }
  std::uint64_t restarts(RestartReason reason) const {
    return life_->restarts()[static_cast<std::size_t>(reason)];
  }
  bool was_killed(pid_t pid, int signal) const {
    return std::find(world_->kills.begin(), world_->kills.end(), std::pair(pid, signal)) !=
           world_->kills.end();
  }
  SocketId socket_of(int slot) const {
    for (const auto& socket : world_->socket_infos) {
      if (socket.slot == slot) return socket.id;
    }
    return 0;
  }
  void stop_worker(pid_t pid) { EXPECT_TRUE(life_->on_stopped(pid, true)); }
};

TEST_F(HangTest, AtHalfOfTheTimeoutItsStackIsAskedForAndItIsHung) {
  start_ready(2);
  const WorkerId id = block(0);
  watch(Millis(14'000));
  EXPECT_TRUE(world_->stacks.empty());
  EXPECT_EQ(state(0), SlotState::ready);
  watch(Millis(3000));
  ASSERT_EQ(world_->stacks.size(), 1u);
  EXPECT_EQ(world_->stacks.front().worker, id);
  EXPECT_EQ(state(0), SlotState::hung);
  EXPECT_EQ(state(1), SlotState::ready);
  watch(Millis(5000));
  EXPECT_EQ(world_->stacks.size(), 1u) << "once in a run";
  EXPECT_TRUE(world_->forks.empty() && world_->kills.empty());
  turn(id);
  watch(Millis(200));
  EXPECT_EQ(state(0), SlotState::ready);
}

TEST_F(HangTest, AtTheTimeoutItIsReplacedFirstThenAbortedThenKilled) {
  start_ready(2);
  std::vector<std::string_view> events;
  life_->set_on_event([&](const Event& event) { events.push_back(to_string(event.kind)); });
  const WorkerId id = block(0);
  const pid_t pid = current(0).pid;
  watch(Millis(16'000));
  answer_stacks();
  watch(Millis(15'000));
  EXPECT_EQ(world_->stacks.size(), 1u) << "the dump";
  ASSERT_EQ(world_->forks.size(), 1u);
  EXPECT_EQ(current(0).id, id);
  EXPECT_TRUE(world_->kills.empty());
  boot_all();
  EXPECT_NE(current(0).id, id);
  EXPECT_EQ(state(0), SlotState::ready);
  watch(Millis(2000));
  EXPECT_TRUE(world_->kills.empty()) << "not before it is dumped";
  answer_stacks();
  watch(Millis(200));
  EXPECT_TRUE(was_killed(pid, SIGABRT));
  EXPECT_FALSE(was_killed(pid, SIGKILL));
  pass(Millis(3000));
  EXPECT_TRUE(was_killed(pid, SIGKILL));
  dies(id, kKilled);
  EXPECT_EQ(events, (std::vector<std::string_view>{"worker_hung", "worker_ready", "worker_left"}));
  EXPECT_EQ(restarts(RestartReason::timeout), 1u);
  EXPECT_EQ(restarts(RestartReason::killed) + restarts(RestartReason::graceful_timeout), 0u);
  EXPECT_EQ(life_->slots()[0].restarts, 1);
  EXPECT_TRUE(life_->slots()[0].last_exit.starts_with("hung, timeout: 30"))
      << life_->slots()[0].last_exit;
  expect_all_sockets_served();
}

TEST_F(HangTest, OneThatDiesOfTheAbortIsNotKilledAgain) {
  start_ready(1);
  const WorkerId id = block(0);
  watch(Millis(34'000));
  answer_stacks();
  boot_all();
  watch(Millis(1200));
  dies(id, SIGABRT);
  pass(Millis(10'000));
  for (const auto& [pid, signal] : world_->kills) EXPECT_EQ(signal, SIGABRT);
  EXPECT_EQ(restarts(RestartReason::timeout), 1u);
}

TEST_F(HangTest, AShortGracefulTimeoutDoesNotEndItBeforeItsStackIsHad) {
  settings_.graceful_timeout = Millis(0);
  start_ready(2);
  const WorkerId id = block(0);
  const pid_t pid = current(0).pid;
  watch(Millis(16'000));
  answer_stacks();
  watch(Millis(15'000));
  boot_all();
  EXPECT_TRUE(was_sent(id, "drain"));
  watch(Millis(7000));
  EXPECT_TRUE(world_->kills.empty());
  answer_stacks();
  watch(Millis(200));
  EXPECT_TRUE(was_killed(pid, SIGABRT));
}

TEST_F(HangTest, AStackThatCannotBeHadDelaysNothing) {
  start_ready(2);
  block(0);
  const pid_t pid = current(0).pid;
  watch(Millis(32'000));
  answer_stacks(Error("pid 100 does not answer"));
  boot_all();
  watch(Millis(200));
  EXPECT_TRUE(was_killed(pid, SIGABRT));
}

TEST_F(HangTest, WhereNoSuccessorComesItIsAbortedAfterBootTimeout) {
  settings_.boot_timeout = Millis(10'000);
  start_ready(1);
  const WorkerId id = block(0);
  const pid_t pid = current(0).pid;
  watch(Millis(33'000));
  answer_stacks();
  world_->fail_fork = true;
  watch(Millis(5000));
  EXPECT_TRUE(world_->kills.empty());
  watch(Millis(8000));
  EXPECT_TRUE(was_killed(pid, SIGABRT));
  dies(id, SIGABRT);
  EXPECT_EQ(restarts(RestartReason::timeout), 1u);
}

TEST_F(HangTest, DuringAChangeItIsAbortedWithoutASuccessor) {
  start_ready(4);
  block(3);
  const pid_t pid = current(3).pid;
  watch(Millis(29'000));
  answer_stacks();
  reload();
  watch(Millis(3000));
  answer_stacks();
  watch(Millis(200));
  EXPECT_TRUE(was_killed(pid, SIGABRT));
  load_mold();
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_TRUE(reloads_.front().ok);
  EXPECT_EQ(generations(), (std::vector<int>{2, 2, 2, 2}));
}

TEST_F(HangTest, OneThatTurnsAgainAfterTheVerdictLeavesGracefully) {
  start_ready(2);
  const WorkerId id = block(0);
  watch(Millis(32'000));
  turn(id);
  watch(Millis(200));
  answer_stacks();
  boot_all();
  watch(Millis(1000));
  EXPECT_TRUE(was_sent(id, "drain"));
  EXPECT_TRUE(world_->kills.empty());
  leavers_leave();
  EXPECT_EQ(restarts(RestartReason::timeout), 1u);
  EXPECT_EQ(life_->slots()[0].restarts, 0);
}

TEST_F(HangTest, AllThatHangAreReplacedAtOnce) {
  start_ready(8);
  for (int i = 0; i < 8; ++i) block(i);
  watch(Millis(32'000));
  EXPECT_EQ(world_->forks.size(), 8u);
}

TEST_F(HangTest, WithoutATimeoutNothingHangs) {
  settings_.timeout = Millis(0);
  start_ready(2);
  block(0);
  watch(Millis(3'600'000));
  EXPECT_TRUE(world_->stacks.empty() && world_->kills.empty() && world_->forks.empty());
  EXPECT_EQ(state(0), SlotState::ready);
}

TEST_F(HangTest, AnOverloadedMachineHangsNobody) {
  start_ready(2);
  block(0);
  auto& uses = world_->uses[current(0).pid];
  uses = {ThreadUse{current(0).pid, 'R', Millis(0), Millis(0)}};
  for (int i = 0; i < 1000; ++i) {
    watch(Millis(200));
    uses.front().ran += Millis(25);
    *uses.front().waited += Millis(175);
  }
  EXPECT_EQ(world_->stacks.size(), 1u) << "half of it is over: 200 s by eight";
  EXPECT_TRUE(world_->kills.empty() && world_->forks.empty());
}

TEST_F(HangTest, WhenEveryWorkerHangsTheServiceIsNotReady) {
  start_ready(2);
  const WorkerId first = block(0);
  block(1);
  watch(Millis(16'000));
  EXPECT_EQ(life_->not_ready_reason(), "every worker hangs");
  turn(first);
  watch(Millis(200));
  EXPECT_EQ(life_->not_ready_reason(), "");
}

TEST_F(HangTest, LooksAreSeldomForOneWorkerAndNoneWithoutPurpose) {
  start(2);
  EXPECT_EQ(world_->look_period, Millis(0)) << "nobody serves";
  load_mold();
  boot_all();
  EXPECT_EQ(world_->look_period, Millis(100));
  life_->scale(Lifecycle::ScaleTo{1}, noting(others_));
  run_on();
  EXPECT_EQ(world_->look_period, Millis(1000));
  settings_.timeout = Millis(0);
  reload();
  load_mold();
  run_on();
  EXPECT_EQ(world_->look_period, Millis(0));
  life_->stop(Lifecycle::Stop::graceful);
  EXPECT_EQ(world_->look_period, Millis(0));
}

// ---- queues

TEST_F(HangTest, AStuckWorkersQueueIsAdoptedAndGivenBackWhenItTurns) {
  start_ready(3);
  const WorkerId id = block(1);
  watch(Millis(1000));
  EXPECT_EQ(world_->active.back(), (std::vector<int>{0, 1, 2})) << "its queue is empty";
  const SocketId socket = socket_of(1);
  world_->queues[socket] = 1;
  watch(Millis(100));
  EXPECT_EQ(world_->active.back(), (std::vector<int>{0, 2}));
  const WorkerId neighbour =
      world_->given[current(0).id].contains(socket) ? current(0).id : current(2).id;
  EXPECT_TRUE(world_->given[neighbour].contains(socket));
  EXPECT_TRUE(world_->given[id].contains(socket)) << "it keeps its own";
  world_->queues[socket] = 0;
  watch(Millis(1000));
  EXPECT_EQ(world_->active.back(), (std::vector<int>{0, 2})) << "it still runs";
  turn(id);
  watch(Millis(100));
  EXPECT_EQ(world_->active.back(), (std::vector<int>{0, 1, 2}));
  EXPECT_FALSE(world_->given[neighbour].contains(socket));
  EXPECT_TRUE(world_->given[id].contains(socket));
}

TEST_F(HangTest, AnAdoptedQueueGoesOnWhenItsAdopterIsStuckToo) {
  start_ready(3);
  block(1);
  const SocketId socket = socket_of(1);
  world_->queues[socket] = 1;
  watch(Millis(300));
  const int first = world_->given[current(0).id].contains(socket) ? 0 : 2;
  block(first);
  watch(Millis(300));
  EXPECT_EQ(world_->active.back(), (std::vector<int>{2 - first}));
  EXPECT_TRUE(world_->given[current(2 - first).id].contains(socket));
}

TEST_F(HangTest, WhereAllAreStuckAllAreSteeredTo) {
  start_ready(2);
  for (int i = 0; i < 2; ++i) {
    block(i);
    world_->queues[socket_of(i)] = 3;
  }
  watch(Millis(500));
  EXPECT_EQ(world_->active.back(), (std::vector<int>{0, 1}));
  expect_all_sockets_served();
}

TEST_F(HangTest, ForASharedQueueAllThatTurnAreToldToTry) {
  start_ready(3, true);
  const WorkerId id = block(1);
  watch(Millis(500));
  EXPECT_FALSE(was_sent(current(0).id, "try_accept"));
  world_->queues[world_->socket_infos.front().id] = 1;
  watch(Millis(100));
  EXPECT_TRUE(was_sent(current(0).id, "try_accept"));
  EXPECT_TRUE(was_sent(current(2).id, "try_accept"));
  EXPECT_FALSE(was_sent(id, "try_accept"));
}

// ---- what a reload waits for

// A reload whose first worker is ready, and blocked from then on.
class BlockedReloadTest : public HangTest {
 protected:
  const Worker& reload_to_blocked(Millis after) {
    reload();
    load_mold();
    first_ = boot_one();
    watch(after);
    world_->running_since[life_->worker(first_)->record] = world_->time;
    return *life_->worker(first_);
  }
  // Everything but the present of the loops goes on.
  void go_on(Millis time) {
    for (Millis done{0}; done < time; done += Millis(500)) {
      boot_all();
      leavers_leave();
      watch(Millis(500));
    }
  }
  WorkerId first_ = 0;
};

TEST_F(BlockedReloadTest, ALoopThatBlocksBeforeTheEndOfMinReadyIsGivenNoSocketsAndRolledBack) {
  settings_.boot_timeout = Millis(10'000);
  start_ready(2);
  const pid_t pid = reload_to_blocked(Millis(100)).pid;
  watch(Millis(9'000));
  EXPECT_TRUE(reloads_.empty() && world_->stacks.empty());
  EXPECT_GT(world_->wake, world_->time) << "no timer that is due already, again and again";
  EXPECT_TRUE(world_->given[first_].empty());
  watch(Millis(1'500));
  ASSERT_EQ(world_->stacks.size(), 1u);
  EXPECT_EQ(world_->stacks.front().worker, first_);
  answer_stacks();
  pass(Millis(2'100));
  EXPECT_TRUE(was_killed(pid, SIGKILL)) << "it has nothing to finish";
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  ASSERT_TRUE(reloads_.front().failure);
  EXPECT_EQ(reloads_.front().failure->stage, "ready");
  EXPECT_NE(reloads_.front().failure->error.find("worker 0 is blocked: its loop has been running"),
            std::string::npos)
      << reloads_.front().failure->error;
  EXPECT_NE(reloads_.front().failure->error.find("(boot_timeout is 10 s)"), std::string::npos)
      << reloads_.front().failure->error;
  EXPECT_EQ(reloads_.front().failure->detail, "File \"main.py\"\n");
  EXPECT_EQ(generations(), (std::vector<int>{1, 1}));
  EXPECT_TRUE(world_->given[first_].empty());
  EXPECT_FALSE(was_killed(pid, SIGABRT));
}

TEST_F(BlockedReloadTest, AShorterTimeoutEndsItSooner) {
  settings_.timeout = Millis(5'000);
  start_ready(1);
  reload_to_blocked(Millis(100));
  watch(Millis(6'000));
  answer_stacks(Error("pid 100 does not answer"));
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  ASSERT_TRUE(reloads_.front().failure);
  EXPECT_NE(reloads_.front().failure->error.find("(timeout is 5 s)"), std::string::npos);
  EXPECT_EQ(generations(), (std::vector<int>{1}));
}

TEST_F(BlockedReloadTest, OneThatTurnsAgainOnlyDelaysIt) {
  start_ready(1);
  reload_to_blocked(Millis(100));
  watch(Millis(8'000));
  EXPECT_TRUE(world_->given[first_].empty());
  // Another callback, as long: it has turned in between.
  world_->running_since[life_->worker(first_)->record] = world_->time;
  watch(Millis(200));
  EXPECT_FALSE(world_->given[first_].empty());
  turn(first_);
  run_on();
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_TRUE(reloads_.front().ok);
  EXPECT_EQ(generations(), (std::vector<int>{2}));
}

TEST_F(BlockedReloadTest, OneWithoutACpuOnlyDelaysIt) {
  settings_.boot_timeout = Millis(10'000);
  start_ready(1);
  const pid_t pid = reload_to_blocked(Millis(100)).pid;
  auto& uses = world_->uses[pid];
  uses = {ThreadUse{pid, 'R', Millis(0), Millis(0)}};
  for (int i = 0; i < 300; ++i) {
    watch(Millis(200));
    uses.front().ran += Millis(10);
    *uses.front().waited += Millis(190);
  }
  EXPECT_TRUE(reloads_.empty() && world_->stacks.empty());
  turn(first_);
  go_on(Millis(3'000));
  ASSERT_EQ(reloads_.size(), 1u);
  EXPECT_TRUE(reloads_.front().ok);
}

TEST_F(BlockedReloadTest, TheLastOneMustTurnBeforeItIsFinal) {
  start_ready(1);
  reload_to_blocked(Millis(0));
  turn(first_);
  watch(Millis(1'100));
  EXPECT_FALSE(world_->given[first_].empty());
  block(0);
  watch(Millis(20'000));
  EXPECT_TRUE(reloads_.empty()) << "it would have been final after a second";
  answer_stacks();
  watch(Millis(12'000));
  answer_stacks();
  watch(Millis(200));
  EXPECT_TRUE(was_killed(life_->worker(first_)->pid, SIGABRT));
  go_on(Millis(3'000));
  ASSERT_EQ(reloads_.size(), 1u);
  ASSERT_TRUE(reloads_.front().failure);
  EXPECT_NE(reloads_.front().failure->error.find("worker 0 hangs"), std::string::npos);
  EXPECT_EQ(generations(), (std::vector<int>{1}));
}

TEST_F(BlockedReloadTest, WithoutATimeoutItEndsAfterBootTimeout) {
  settings_.timeout = Millis(0);
  start_ready(1);
  reload_to_blocked(Millis(0));
  turn(first_);
  watch(Millis(1'100));
  block(0);
  watch(Millis(65'000));
  answer_stacks();
  go_on(Millis(3'000));
  ASSERT_EQ(reloads_.size(), 1u);
  ASSERT_TRUE(reloads_.front().failure);
  EXPECT_NE(reloads_.front().failure->error.find("(boot_timeout is 60 s)"), std::string::npos)
      << reloads_.front().failure->error;
  EXPECT_EQ(generations(), (std::vector<int>{1}));
}

TEST_F(HangTest, OnesThatHangAgainAndAgainRightAfterTheirStartAreACrashLoop) {
  settings_.crash_backoff.first = Millis(10'000);
  start_ready(1);
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(life_->degraded());
    block(0);
    watch(Millis(33'000));
    answer_stacks();
    if (i == 1) break;
    ASSERT_EQ(world_->forks.size(), 1u) << "the first costs no pause";
    boot_all();
    leavers_leave();
  }
  EXPECT_TRUE(life_->degraded());
  EXPECT_EQ(life_->slots()[0].backoff.early_deaths(), 2);
  EXPECT_TRUE(world_->forks.empty()) << "the second costs a pause";
  watch(Millis(11'000));
  boot_all();
  leavers_leave();
  EXPECT_TRUE(life_->degraded());
  watch(Millis(2'000));
  EXPECT_FALSE(life_->degraded()) << "it lives, and its loop turns";
}

TEST_F(HangTest, OneThatHangsAfterALongLifeIsNoCrashLoop) {
  start_ready(1);
  for (int i = 0; i < 3; ++i) {
    watch(Millis(11'000));
    block(0);
    watch(Millis(33'000));
    answer_stacks();
    ASSERT_EQ(world_->forks.size(), 1u) << i;
    boot_all();
    leavers_leave();
    EXPECT_EQ(life_->slots()[0].backoff.early_deaths(), 1);
    EXPECT_FALSE(life_->degraded());
  }
}

TEST_F(HangTest, OneThatWasStoppedByASignalIsSteeredAwayFromAndNeverKilled) {
  start_ready(2);
  const WorkerId id = current(0).id;
  const pid_t pid = current(0).pid;
  stop_worker(pid);
  EXPECT_EQ(world_->active.back(), (std::vector<int>{1}));
  EXPECT_TRUE(world_->given[current(1).id].contains(socket_of(0)));
  EXPECT_EQ(state(0), SlotState::hung);
  watch(Millis(120'000));
  EXPECT_TRUE(world_->kills.empty() && world_->forks.empty());
  EXPECT_TRUE(life_->on_stopped(pid, false));
  EXPECT_EQ(world_->active.back(), (std::vector<int>{0, 1}));
  EXPECT_EQ(state(0), SlotState::ready);
  EXPECT_EQ(current(0).id, id);
  EXPECT_FALSE(life_->on_stopped(1, true));
}

}  // namespace
}  // namespace mgr::manager
