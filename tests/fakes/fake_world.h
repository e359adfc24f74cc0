#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "manager/supervisor/world.h"

namespace mgr::manager {

// A World without processes, sockets or time: it records what the life cycle does to it, and the
// test says what happens. pids are made up, starting with 100.
class FakeWorld final : public World {
 public:
  std::chrono::milliseconds time{1'000'000};
  std::chrono::milliseconds wake = std::chrono::milliseconds::max();
  std::map<MoldId, ipc::MoldOrder> molds;  // running
  std::map<MoldId, pid_t> mold_pids;
  std::vector<MoldId> mold_history;
  std::set<MoldId> released_molds;
  struct Asked {
    MoldId mold;
    ipc::Fork order;
  };
  std::deque<Asked> forks;                            // not answered yet
  std::map<WorkerId, std::vector<std::string>> sent;  // names of commands
  std::map<WorkerId, ipc::Drain> last_drain;
  std::map<MoldId, std::vector<std::string>> sent_to_molds;
  std::map<WorkerId, std::set<SocketId>> given;
  std::vector<std::pair<pid_t, int>> kills;
  std::vector<SocketInfo> socket_infos;
  std::vector<std::vector<int>> active;  // each set_active_slots()
  std::set<int> records;
  bool listening = false;
  bool closed = false;
  std::optional<int> left;
  std::int64_t oom = 0;
  std::string core;
  int fit = 512;
  std::chrono::milliseconds look_period{0};
  std::map<int, std::chrono::milliseconds> running_since;  // by record; none: the loop waits
  std::map<pid_t, std::vector<ThreadUse>> uses;
  std::map<SocketId, int> queues;
  struct StackAsked {
    WorkerId worker;
    std::function<void(const Result<std::string>&)> done;
  };
  std::vector<StackAsked> stacks;
  std::map<int, std::uint64_t> requests;    // by record
  std::map<pid_t, std::uint64_t> resident;  // bytes
  std::deque<std::uint64_t> randoms;        // what random() gives next; then 0
  std::string last_words;
  int slots_made = 0;
  // Errors to take.
  bool fail_mold = false;
  bool fail_fork = false;
  bool fail_slots = false;
  bool fail_listen = false;
  int records_free = 2048;

  explicit FakeWorld(int slots, bool shared = false) {
    if (shared) socket_infos.push_back({next_socket_++, -1});
    shared_ = shared;
    CHECK(make_slots(slots));
  }

  std::chrono::milliseconds now() override { return time; }
  void wake_at(std::chrono::milliseconds when) override { wake = when; }
  void look_every(std::chrono::milliseconds period) override { look_period = period; }
  Result<pid_t> start_mold(MoldId mold, const ipc::MoldOrder& order) override {
    if (fail_mold) return Error("fork: Resource temporarily unavailable");
    molds[mold] = order;
    mold_pids[mold] = next_pid_++;
    mold_history.push_back(mold);
    return mold_pids[mold];
  }
  void release_mold(MoldId mold) override { released_molds.insert(mold); }
  void send_to_mold(MoldId mold, const ipc::MoldCommand& command) override {
    static const char* const kNames[] = {"fork", "reopen", "set_log_level"};
    sent_to_molds[mold].push_back(kNames[command.index()]);
  }
  Result<void> fork_worker(MoldId mold, const ipc::Fork& order) override {
    if (fail_fork) return Error("socketpair: Too many open files");
    forks.push_back({mold, order});
    return {};
  }
  void send(WorkerId worker, const ipc::WorkerCommand& command) override {
    static const char* const kNames[] = {"listen",
                                         "release",
                                         "hold",
                                         "drain",
                                         "quit",
                                         "try_accept",
                                         "close_after_response",
                                         "keep_after_response",
                                         "reopen",
                                         "set_log_level"};
    sent[worker].push_back(kNames[command.index()]);
    if (const auto* release = std::get_if<ipc::Release>(&command)) {
      for (const auto id : release->ids) given[worker].erase(id);
    }
    if (const auto* drain = std::get_if<ipc::Drain>(&command)) last_drain[worker] = *drain;
    if (command.index() >= 2 && command.index() <= 4) given[worker].clear();
  }
  void give_sockets(WorkerId worker, const std::vector<SocketId>& sockets) override {
    given[worker].insert(sockets.begin(), sockets.end());
  }
  void release_worker(WorkerId worker) override { given.erase(worker); }
  std::string last_words_of_mold(MoldId) override { return last_words; }
  std::string last_words_of_worker(WorkerId) override { return last_words; }
  void kill(pid_t pid, int signal) override { kills.emplace_back(pid, signal); }
  const std::vector<SocketInfo>& sockets() override { return socket_infos; }
  Result<void> ensure_slots(int count) override {
    if (fail_slots || !make_slots(count)) return Error("bind 127.0.0.1:8000: Too many open files");
    return {};
  }
  Result<void> start_listening() override {
    if (fail_listen) return Error("bind 127.0.0.1:8000: Address already in use");
    listening = true;
    return {};
  }
  void set_active_slots(const std::vector<int>& slots) override { active.push_back(slots); }
  int queued_on(SocketId socket) override { return queues[socket]; }
  void stop_listening() override { closed = true; }
  int take_record() override {
    if (records_free == 0) return -1;
    --records_free;
    const int record = next_record_++;
    records.insert(record);
    return record;
  }
  void return_record(int record) override {
    CHECK(records.erase(record) == 1);
    ++records_free;
  }
  std::uint64_t requests_of(int record) override { return requests[record]; }
  LoopSight loop_of(int record) override {
    const auto since = running_since.find(record);
    if (since == running_since.end()) return {};
    return {static_cast<std::uint64_t>(since->second.count()), time - since->second};
  }
  std::vector<ThreadUse> thread_uses_of(pid_t pid) override { return uses[pid]; }
  void take_stack(WorkerId worker, pid_t,
                  std::function<void(const Result<std::string>&)> done) override {
    stacks.push_back({worker, std::move(done)});
  }
  std::uint64_t resident_bytes_of(pid_t pid) override { return resident[pid]; }
  int workers_that_fit(pid_t) override { return fit; }
  std::uint64_t random(std::uint64_t most) override {
    if (randoms.empty()) return 0;
    const std::uint64_t number = randoms.front();
    randoms.pop_front();
    CHECK(number <= most);
    return number;
  }
  std::int64_t oom_kills() override { return oom; }
  std::string core_of(pid_t, const std::string&) override { return core; }
  void leave(int exit_status) override { left = exit_status; }

  pid_t new_pid() { return next_pid_++; }

 private:
  bool make_slots(int count) {
    for (; slots_made < count; ++slots_made) {
      if (!shared_) socket_infos.push_back({next_socket_++, slots_made});
    }
    return true;
  }

  bool shared_ = false;
  pid_t next_pid_ = 100;
  SocketId next_socket_ = 1;
  int next_record_ = 0;
};

}  // namespace mgr::manager
