#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/ipc/channel.h"
#include "common/ipc/scoreboard.h"
#include "common/loop/event_loop.h"
#include "common/settings/account.h"
#include "manager/supervisor/active_clock.h"
#include "manager/supervisor/listeners.h"
#include "manager/supervisor/process_info.h"
#include "manager/supervisor/stacks.h"
#include "manager/supervisor/totals.h"
#include "manager/supervisor/world.h"

namespace mgr::manager {

class StateReader;
class StateWriter;

// One end of a channel in the supervisor's loop: reads records as they come, and keeps records that
// the peer does not take yet until it does, in order. Owned by ProcessWorld.
class Peer {
 public:
  using OnRecord = std::function<void(ipc::Record&)>;
  Peer(EventLoop& loop, ipc::Channel channel, OnRecord on_record, std::function<void()> on_closed);

  // The channel, and the records that wait (saved_state.h).
  nlohmann::json save(StateWriter& writer) const;
  void restore(const nlohmann::json& saved, const StateReader& reader);

  // Descriptors are duplicated if the record has to wait.
  void send(std::string text, const std::vector<int>& descriptors = {});

 private:
  struct Waiting {
    std::string text;
    std::vector<UniqueFd> descriptors;
  };
  void on_event(int events);
  void flush();
  void watch();

  ipc::Channel channel_;
  OnRecord on_record_;
  std::function<void()> on_closed_;
  std::vector<Waiting> waiting_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  FdWatcher watcher_;
};

// The World of the real supervisor: processes, channels, sockets, the loop's timer.
class ProcessWorld final : public World {
 public:
  struct Options {
    std::string worker_program;
    int log_fd = 2;
    int access_log_fd = -1;
    std::optional<Account> account = {};  // of molds and workers, where it is another
  };
  // Where events go; set before the first mold is started.
  struct Events {
    std::function<void(MoldId, const ipc::MoldMessage&, std::string)> mold_message;
    std::function<void(WorkerId, const ipc::WorkerMessage&, std::string)> worker_message;
    std::function<void(WorkerId)> worker_channel_closed;
    // By a mold or a worker, whose numbers differ.
    std::function<void(std::uint64_t who, std::uint64_t serial)> log_files_taken;
    std::function<void()> time;
    std::function<void()> look;
    std::function<void(int)> leave;
  };

  ProcessWorld(EventLoop& loop, Log& log, Listeners& listeners, ipc::Scoreboard scoreboard,
               Options options);
  void set_events(Events events) { events_ = std::move(events); }
  const ipc::Scoreboard& scoreboard() const { return scoreboard_; }
  Totals& totals() { return totals_; }
  Stacks& stacks() { return stacks_; }

  // Channels, records of the scoreboard, counters and time, of every mold and worker.
  nlohmann::json save(StateWriter& writer) const;
  // Instead of starting any. The scoreboard is the old one.
  Result<void> restore(const nlohmann::json& saved, const StateReader& reader);

  // Sends the log files to all molds and workers, who are returned.
  std::set<std::uint64_t> give_log_files(const ipc::Reopen& order);
  // Is there a mold or worker of this number?
  bool knows(std::uint64_t who) const { return molds_.contains(who) || workers_.contains(who); }

  std::chrono::milliseconds now() override;
  void wake_at(std::chrono::milliseconds when) override;
  void look_every(std::chrono::milliseconds period) override;
  Result<pid_t> start_mold(MoldId mold, const ipc::MoldOrder& order) override;
  void release_mold(MoldId mold) override;
  void send_to_mold(MoldId mold, const ipc::MoldCommand& command) override;
  Result<void> fork_worker(MoldId mold, const ipc::Fork& order) override;
  void send(WorkerId worker, const ipc::WorkerCommand& command) override;
  void give_sockets(WorkerId worker, const std::vector<SocketId>& sockets) override;
  void release_worker(WorkerId worker) override;
  std::string last_words_of_mold(MoldId mold) override;
  std::string last_words_of_worker(WorkerId worker) override;
  void kill(pid_t pid, int signal) override;
  const std::vector<SocketInfo>& sockets() override { return listeners_.sockets(); }
  Result<void> ensure_slots(int count) override;
  Result<void> start_listening() override { return listeners_.start(); }
  void set_active_slots(const std::vector<int>& slots) override { listeners_.set_active(slots); }
  int queued_on(SocketId socket) override { return listeners_.queued_on(socket); }
  void stop_listening() override { listeners_.close(); }
  int take_record() override;
  void return_record(int record) override;
  std::uint64_t requests_of(int record) override;
  LoopSight loop_of(int record) override;
  std::vector<ThreadUse> thread_uses_of(pid_t pid) override { return thread_uses(pid); }
  void take_stack(WorkerId worker, pid_t pid,
                  std::function<void(const Result<std::string>&)> done) override;
  std::uint64_t resident_bytes_of(pid_t pid) override;
  int workers_that_fit(pid_t mold) override;
  std::uint64_t random(std::uint64_t most) override;
  std::int64_t oom_kills() override;
  std::string core_of(pid_t pid, const std::string& directory) override;
  void leave(int exit_status) override;

 private:
  std::unique_ptr<Peer> peer_of_mold(MoldId mold, ipc::Channel channel);
  std::unique_ptr<Peer> peer_of_worker(WorkerId worker, ipc::Channel channel);
  void look();
  void expect();

  EventLoop& loop_;
  Log& log_;
  Listeners& listeners_;
  ipc::Scoreboard scoreboard_;
  Totals totals_{scoreboard_};
  Options options_;
  Events events_;
  ActiveClock clock_;
  Timer timer_;
  Timer looks_;
  std::chrono::milliseconds look_period_{0};
  // When the timers are due, in raw time.
  std::chrono::milliseconds wake_ = std::chrono::milliseconds::max();
  std::chrono::milliseconds next_look_ = std::chrono::milliseconds::max();
  std::map<MoldId, std::unique_ptr<Peer>> molds_;
  std::map<WorkerId, std::unique_ptr<Peer>> workers_;
  std::map<MoldId, UniqueFd> mold_words_;
  std::map<WorkerId, UniqueFd> worker_words_;
  std::vector<int> free_records_;
  Stacks stacks_;
  std::mt19937_64 random_{std::random_device()()};
};

}  // namespace mgr::manager
