#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/ipc/channel.h"
#include "common/ipc/messages.h"
#include "common/ipc/scoreboard.h"
#include "common/settings/settings.h"

namespace mgr::worker {

// What a forked worker is: everything that it got from its mold's Fork.
struct Identity {
  UniqueFd channel;
  int slot = 0;
  int record = 0;
  pid_t supervisor = 0;
  UniqueFd stacks = {};            // where it tells what it executes; none: nobody will ask
  std::uint64_t max_requests = 0;  // 0: without limit
};

// Called around the two forks; for Python PyOS_BeforeFork and its two counterparts. None may fail.
struct ForkHooks {
  void (*before)();
  void (*after_in_mold)();
  void (*after_in_worker)();
};

// A process that has loaded the application once (or will let each worker load it) and forks
// workers when the supervisor asks. It owns the inherited descriptors, and blocks in receive(): no
// loop.
class Mold {
 public:
  // Takes over the descriptors of common/ipc/inherited.h and reads the order. They become
  // close-on-exec. Errors: a descriptor is missing, the order can't be read.
  static Result<Mold> take();

  const ipc::MoldOrder& order() const { return order_; }
  const Settings& settings() const { return settings_; }
  Log& log() { return log_; }
  ipc::Scoreboard& scoreboard() { return scoreboard_; }

  // `traceback` travels as a memfd beside the record; empty: none.
  void report(const ipc::MoldMessage& message, const std::string& traceback = {});
  // Sends LastWords with `memfd` (borrowed).
  void report_last_words(int memfd);

  struct Request {
    ipc::Fork fork;
    UniqueFd channel;
    UniqueFd stacks;
  };
  // Waits for the next Fork, obeying other commands. nullopt: the supervisor is gone.
  std::optional<Request> receive();
  // Forks the worker, which becomes the supervisor's child, and reports it (or why not).
  // Returns in the worker with its identity, in the mold with nullopt.
  std::optional<Identity> fork(Request request, const ForkHooks& hooks);

 private:
  void send(const ipc::MoldMessage& message, const std::vector<int>& descriptors);
  // Makes a Fork a request; obeys what else there is.
  std::optional<Request> obey(const ipc::MoldCommand& command, std::vector<UniqueFd> descriptors);
  Mold(ipc::Channel channel, ipc::MoldOrder order, Settings settings, ipc::Scoreboard scoreboard);

  ipc::Channel channel_;
  ipc::MoldOrder order_;
  Settings settings_;
  ipc::Scoreboard scoreboard_;
  Log log_;
  pid_t supervisor_;
};

// Where records of a mold or worker go: the descriptor that the supervisor gave.
Log log_for(const Settings& settings, std::string who);

}  // namespace mgr::worker
