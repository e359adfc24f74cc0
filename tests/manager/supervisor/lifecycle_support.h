#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/unique_fd.h"
#include "manager/supervisor/lifecycle.h"
#include "tests/fakes/fake_world.h"

namespace mgr::manager {

inline constexpr int kKilled = SIGKILL;  // a status as waitpid gives it
inline constexpr int kSegfault = SIGSEGV;
constexpr int exited(int status) {
  return status << 8;
}

// A whole supervisor without processes. The verbs say what happens to it; the questions what it
// did.
class LifecycleTest : public testing::Test {
 protected:
  LifecycleTest()
      : null_(::open("/dev/null", O_WRONLY)),
        log_(null_.get(), LogFormat::text, LogLevel::info, "test") {
    settings_.boot_timeout = Millis(60'000);
    settings_.min_ready = Millis(1000);
    settings_.graceful_timeout = Millis(30'000);
  }

  void start(int workers, bool shared = false) {
    world_ = std::make_unique<FakeWorld>(workers, shared);
    life_ = std::make_unique<Lifecycle>(*world_, log_);
    if (check_only_) life_->check_only();
    life_->start(std::make_shared<const Settings>(settings_), workers);
  }
  void start_ready(int workers, bool shared = false) {
    start(workers, shared);
    load_mold();
    boot_all();
    ASSERT_EQ(life_->phase(), Phase::running);
  }

  MoldId newest_mold() const { return world_->mold_history.back(); }
  void load_mold(std::vector<std::string> left_open = {}) {
    ipc::Loaded loaded;
    loaded.interface = "asgi";
    loaded.left_open = std::move(left_open);
    life_->on_mold_message(newest_mold(), loaded, "");
  }
  void fail_mold(std::string stage = "import", std::string error = "SyntaxError") {
    const MoldId mold = newest_mold();
    life_->on_mold_message(mold, ipc::LoadFailed{stage, error, 4}, "Traceback …");
    life_->on_exit(world_->mold_pids[mold], exited(4));
  }
  void mold_dies(MoldId mold, int status) { life_->on_exit(world_->mold_pids[mold], status); }

  // Answers the oldest Fork; returns the worker.
  WorkerId fork_one() {
    CHECK(!world_->forks.empty());
    const auto asked = world_->forks.front();
    world_->forks.pop_front();
    life_->on_mold_message(asked.mold, ipc::Forked{asked.order.worker, world_->new_pid()}, "");
    return asked.order.worker;
  }
  void ready(WorkerId worker) { life_->on_worker_message(worker, ipc::Ready{"asgi"}, ""); }
  WorkerId boot_one() {
    const WorkerId worker = fork_one();
    ready(worker);
    return worker;
  }
  void boot_all() {
    for (int i = 0; i < 1000 && !world_->forks.empty(); ++i) boot_one();
  }
  void boot_fails(WorkerId worker, std::string stage = "lifespan", int status = 3) {
    life_->on_worker_message(worker, ipc::BootFailed{stage, "no database", status}, "Traceback …");
    dies(worker, exited(status));
  }
  void dies(WorkerId worker, int status) {
    const Worker* gone = life_->worker(worker);
    CHECK(gone && gone->pid > 0);
    life_->on_exit(gone->pid, status);
  }
  // Those that were told to leave do so.
  void leavers_leave() {
    std::vector<WorkerId> leaving;
    for (const auto& [id, worker] : life_->workers()) {
      if (worker.state == WorkerState::draining && worker.pid > 0) leaving.push_back(id);
    }
    for (const WorkerId id : leaving) {
      life_->on_worker_message(id, ipc::StoppedAccepting{}, "");
      dies(id, exited(0));
    }
    for (const MoldId mold : std::set<MoldId>(world_->released_molds)) {
      if (life_->molds().contains(mold)) mold_dies(mold, exited(0));
    }
  }
  void pass(Millis time) {
    const Millis end = world_->time + time;
    for (int i = 0; i < 1000 && world_->wake <= end; ++i) {
      world_->time = std::max(world_->time, world_->wake);
      life_->on_time();
    }
    world_->time = end;
  }

  void reload(Lifecycle::WhileReloading policy = Lifecycle::WhileReloading::refuse) {
    life_->reload(
        [this]() -> Result<Lifecycle::Prepared> {
          ++prepared_;
          if (bad_configuration_) return Error("mgr.yaml:3: keep_alive: …");
          return Lifecycle::Prepared{std::make_shared<const Settings>(settings_), {}, new_workers_};
        },
        noting(reloads_), policy);
  }
  Done noting(std::vector<Outcome>& list) {
    return [&list](const Outcome& outcome) { list.push_back(outcome); };
  }
  // Boots whatever is asked for, lets leavers leave and time pass, until nothing is left to do.
  void run_on() {
    for (int i = 0; i < 200; ++i) {
      boot_all();
      leavers_leave();
      if (world_->forks.empty() && !life_->reloading()) return;
      pass(Millis(500));
    }
  }

  const Worker& current(int slot) const {
    const Worker* worker = life_->worker(life_->slots().at(static_cast<std::size_t>(slot)).current);
    CHECK(worker);
    return *worker;
  }
  std::vector<int> generations() const {
    std::vector<int> numbers;
    for (int i = 0; i < life_->target(); ++i) numbers.push_back(current(i).number);
    return numbers;
  }
  // Every listening socket is accepted on by a serving worker.
  void expect_all_sockets_served() const {
    for (const auto& socket : world_->socket_infos) {
      const bool served =
          std::any_of(world_->given.begin(), world_->given.end(), [&](const auto& entry) {
            const Worker* worker = life_->worker(entry.first);
            return worker && worker->state == WorkerState::serving &&
                   entry.second.contains(socket.id);
          });
      EXPECT_TRUE(served) << "socket " << socket.id << " of slot " << socket.slot;
    }
  }
  bool was_sent(WorkerId worker, const std::string& command) const {
    const auto it = world_->sent.find(worker);
    return it != world_->sent.end() &&
           std::find(it->second.begin(), it->second.end(), command) != it->second.end();
  }
  int count_serving() const {
    return static_cast<int>(std::count_if(
        life_->workers().begin(), life_->workers().end(),
        [](const auto& entry) { return entry.second.state == WorkerState::serving; }));
  }

  UniqueFd null_;
  Log log_;
  bool check_only_ = false;
  Settings settings_;
  bool bad_configuration_ = false;
  int prepared_ = 0;  // reloads whose configuration was read
  std::optional<int> new_workers_;
  std::unique_ptr<FakeWorld> world_;
  std::unique_ptr<Lifecycle> life_;
  std::vector<Outcome> reloads_;
  std::vector<Outcome> others_;
};

}  // namespace mgr::manager
