#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/ipc/channel.h"
#include "common/ipc/messages.h"
#include "common/ipc/scoreboard.h"
#include "common/loop/event_loop.h"
#include "common/server/server.h"
#include "common/settings/settings.h"
#include "worker/life/last_resort.h"
#include "worker/life/life.h"
#include "worker/life/mold.h"
#include "worker/life/stacks.h"

namespace mgr::worker {

// How the application is to end.
enum class Leave {
  shut_down,  // nothing is in flight: lifespan shutdown, then exit 0
  cut,        // connections were cut: cancel what runs, lifespan shutdown, then exit 0
  now,        // cut, and no lifespan: exit 0
};
// As mgr_host calls it.
const char* name(Leave how);

// The application's side of a worker. Calls come from inside the loop's turn: mark, and act later.
class Host {
 public:
  virtual void on_leave(Leave how) noexcept = 0;

 protected:
  ~Host() = default;
};

// One worker process: its loop, its HTTP server, its channel to the supervisor and its record in
// the scoreboard. Made after the fork; one in a process. The application, the host, the log and the
// record must outlive it.
//
// It never exits by itself but for Action::exit_now: the host runs it until on_leave() and then
// ends the process.
class Worker {
 public:
  Worker(Identity identity, const Settings& settings, server::Application& application, Host& host,
         ipc::WorkerRecord& record, Log& log);
  ~Worker();
  Worker(const Worker&) = delete;

  EventLoop& loop() { return loop_; }
  server::Server& server() { return *server_; }
  Stacks& stacks() { return stacks_; }
  State state() const { return state_; }

  // Sends LastWords with `memfd` (borrowed).
  void report_last_words(int memfd);
  // The application is loaded and started: tells the supervisor.
  void booted(const std::string& interface);
  // It is not: tells the supervisor why. The host ends the process with `failure.exit_status`.
  void boot_failed(const ipc::BootFailed& failure, const std::string& traceback);

  // No thread is left that runs requests: tells the supervisor.
  void stuck(int threads) { send(ipc::Stuck{threads}); }

  // Turns the loop until wake() was called or `timeout` has passed (nullopt: without limit), at
  // least once. Touches no Python.
  void run(std::optional<std::chrono::milliseconds> timeout);
  // run() returns after this turn of the loop, or the next, which does not wait.
  void wake();
  // For a host whose own loop turns this one: it waits now, or has ceased to. What lies in between
  // is no work of this process.
  void begin_wait() { ipc::end_run(record_, ipc::monotonic_ns()); }
  void end_wait() { ipc::begin_run(record_, ipc::monotonic_ns()); }
  // For one whose own loop can't tell: that loop turns. Every ipc::kBeat, once begun.
  void beat() { ipc::set(record_.beat_ns, ipc::monotonic_ns()); }
  // For a host with a pool of threads, with its lock: how many there are, and how many more run.
  void have_threads(std::size_t count) { ipc::set(record_.threads, count); }
  void count_thread(int change) { ipc::count_thread(record_, change, ipc::monotonic_ns()); }
  // Wakes run() while `fd` (borrowed) is readable; see take_watched_ready(). -1: no more.
  void watch(int fd);
  // The watched descriptor was readable since the last call.
  bool take_watched_ready() { return std::exchange(watched_ready_, false); }
  // Kills the process (SIGKILL) if it still exists then.
  void arm_last_resort(std::chrono::milliseconds delay) { last_resort_->arm(delay); }
  // What is left of the time to leave; zero once it is over.
  std::chrono::milliseconds time_to_leave() const;

 private:
  void step(Event event);
  void act(Action action);
  void on_channel();
  void obey(ipc::WorkerCommand command, std::vector<UniqueFd> descriptors);
  void reopen(const ipc::Reopen& order);
  void lose_supervisor();
  void end_turn();
  void accept();
  void begin_drain();
  void tighten_deadline();
  void leave(Leave how);
  void stop_accepting();
  void send(const ipc::WorkerMessage& message, UniqueFd attachment = {});
  void flush();
  static void before_fork() noexcept;
  static void after_fork_in_parent() noexcept;
  static void after_fork_in_child() noexcept;

  // Time that an application has to shut down after its connections were cut.
  static constexpr std::chrono::milliseconds kShutdownGrace{700};
  // How much later than its deadline a worker that does not turn is killed.
  static constexpr std::chrono::milliseconds kLastResortSlack{1000};

  struct Outgoing {
    std::string text;
    UniqueFd attachment;
  };

  State state_ = State::booting;
  const std::chrono::milliseconds graceful_timeout_;
  ipc::Channel channel_;
  ipc::WorkerRecord& record_;
  std::uint64_t max_requests_;  // 0: without limit, or told
  Host& host_;
  Log& log_;
  Stacks stacks_;
  EventLoop loop_;
  std::optional<LastResort> last_resort_;
  std::unique_ptr<server::Server> server_;
  std::optional<FdWatcher> channel_watcher_;
  std::optional<FdWatcher> watched_;
  std::optional<Timer> timeout_;
  std::optional<Timer> deadline_;
  std::optional<WaitWatcher> waits_;
  std::deque<Outgoing> unsent_;
  std::chrono::milliseconds leave_by_{0};  // on the loop's clock
  Leave how_ = Leave::now;                 // in state leaving
  bool woken_ = false;
  bool turning_ = false;  // inside of a turn that may wait
  bool watched_ready_ = false;

  // What the command being obeyed brought, for the action that it leads to.
  ipc::Listen listen_;
  ipc::Release release_;
  ipc::Drain drain_;
  std::vector<UniqueFd> descriptors_;
};

}  // namespace mgr::worker
