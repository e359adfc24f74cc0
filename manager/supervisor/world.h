#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/base/result.h"
#include "common/ipc/messages.h"
#include "manager/supervisor/hangs.h"

namespace mgr::manager {

using WorkerId = std::uint64_t;
using MoldId = std::uint64_t;
using SocketId = std::uint64_t;

// A listening socket as the life cycle needs to know it.
struct SocketInfo {
  SocketId id = 0;
  int slot = -1;  // the slot that owns it; -1: one socket for all workers
};

// Everything that the life cycle does to the outside. The real one is process_world.h; tests have a
// fake that takes every error branch. Nothing here waits.
class World {
 public:
  // Monotonic time without the time that the supervisor itself was stopped (SIGSTOP, suspend), so
  // that no deadline expires while nobody could act.
  virtual std::chrono::milliseconds now() = 0;
  // Asks for Lifecycle::on_time() at `when`; the latest call counts. max(): none.
  virtual void wake_at(std::chrono::milliseconds when) = 0;
  // Asks for Lifecycle::on_look() at this pace; 0: not at all.
  virtual void look_every(std::chrono::milliseconds period) = 0;

  virtual Result<pid_t> start_mold(MoldId mold, const ipc::MoldOrder& order) = 0;
  // Closes the mold's channel, on which it leaves by itself.
  virtual void release_mold(MoldId mold) = 0;
  virtual void send_to_mold(MoldId mold, const ipc::MoldCommand& command) = 0;

  // Makes the worker's channel and asks the mold to fork it.
  virtual Result<void> fork_worker(MoldId mold, const ipc::Fork& order) = 0;
  virtual void send(WorkerId worker, const ipc::WorkerCommand& command) = 0;
  // Sends Listen with the sockets' descriptors.
  virtual void give_sockets(WorkerId worker, const std::vector<SocketId>& sockets) = 0;
  // Closes the worker's channel.
  virtual void release_worker(WorkerId worker) = 0;

  // What a mold or worker wrote when a fatal signal ended it (ipc::LastWords); empty: nothing.
  // Until release_worker(), and for a mold until release_mold().
  virtual std::string last_words_of_mold(MoldId mold) = 0;
  virtual std::string last_words_of_worker(WorkerId worker) = 0;

  virtual void kill(pid_t pid, int signal) = 0;

  virtual const std::vector<SocketInfo>& sockets() = 0;
  // Makes the sockets of slots [0, count), once; those of a listening address listen at once.
  virtual Result<void> ensure_slots(int count) = 0;
  // Calls listen() on everything, the first time.
  virtual Result<void> start_listening() = 0;
  // Steers new connections to these slots; empty means all.
  virtual void set_active_slots(const std::vector<int>& slots) = 0;
  // Connections that wait in its queue; -1: unknown.
  virtual int queued_on(SocketId socket) = 0;
  // Closes the listening sockets: nobody serves them any more.
  virtual void stop_listening() = 0;

  // Takes a record of the scoreboard, zeroed; -1 when none is left.
  virtual int take_record() = 0;
  virtual void return_record(int record) = 0;
  // Requests that the record's worker has answered.
  virtual std::uint64_t requests_of(int record) = 0;
  // What its loop does.
  virtual LoopSight loop_of(int record) = 0;
  // What the kernel says of its threads, the main one first; none where it can't be read.
  virtual std::vector<ThreadUse> thread_uses_of(pid_t pid) = 0;
  // Asks a worker what it executes; `done` is called once, within some seconds, perhaps at once.
  virtual void take_stack(WorkerId worker, pid_t pid,
                          std::function<void(const Result<std::string>&)> done) = 0;
  // Its resident set; 0 where it can't be read.
  virtual std::uint64_t resident_bytes_of(pid_t pid) = 0;
  // How many workers the memory limit of this process leaves room for, each with as much memory to
  // itself as the mold has (`workers: auto`); at least 1.
  virtual int workers_that_fit(pid_t mold) = 0;
  // A number from 0 to `most`.
  virtual std::uint64_t random(std::uint64_t most) = 0;
  // How many processes of this memory cgroup the kernel's OOM killer has killed so far
  // (mgr::oom_kills()), -1 if unknown.
  virtual std::int64_t oom_kills() = 0;
  // Where the core dump of a process went that ran in `directory` (where_core_went()).
  virtual std::string core_of(pid_t pid, const std::string& directory) = 0;

  // Ends the supervisor with this status, from the loop's next turn.
  virtual void leave(int exit_status) = 0;

 protected:
  ~World() = default;
};

}  // namespace mgr::manager
