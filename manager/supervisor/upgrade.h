#pragma once

#include <functional>
#include <optional>
#include <string>

#include "common/base/log.h"
#include "common/base/unique_fd.h"
#include "common/loop/event_loop.h"
#include "manager/supervisor/lifecycle.h"
#include "manager/supervisor/program.h"
#include "manager/supervisor/program_probe.h"
#include "manager/supervisor/saved_state.h"

namespace mgr::manager {

// Replaces the program of the running supervisor by the one on disk: same process, same sockets, no
// lost request.
//
//   begin() → probing → quieting → ready() → hand_over() → another program, in resume_supervisor()
//                │          │                    │
//                └──────────┴────────────────────┴─→ failed: this program goes on
//
// probing   a child executes the new program on a copy of the state, and only its word leads on
// quieting  the control socket accepts nothing, and what it has accepted is answered; then the loop
//           is stopped, since a process is best replaced from outside of its callbacks
// hand_over signals are blocked and those that have come are obeyed; the state is written; the last
//           thing of all is to let descriptors pass
//
// What runs next is not final either: until its loop turns it comes back here (fallback.h). The
// molds and workers live on all the time, and are replaced by a reload once the new program turns.
class Upgrade {
 public:
  struct Actions {
    std::function<void(StateWriter&)> save;
    // Nothing else waits for its turn, and nobody stops.
    std::function<bool()> may_go_on;
    std::function<void(bool)> accept_control;
    std::function<std::size_t()> control_connections;
    std::function<void(const Outcome&)> failed;
  };
  // Everything must outlive it.
  Upgrade(EventLoop& loop, const Log& log, const Program& program, Actions actions);

  // The descriptor of the connection on which somebody waits for the outcome; -1: nobody, or gone.
  using Asker = std::function<int()>;
  void begin(Asker asker);
  // It is not wanted any more.
  void cancel();
  bool on_exit(pid_t pid, int status);

  // The loop was stopped for hand_over(), which returns only where this program goes on.
  bool ready() const { return step_ == Step::ready; }
  void hand_over();

 private:
  enum class Step { idle, probing, quieting, ready };

  Result<void> begin_probe();
  void probed(const Result<std::string>& version);
  void look_whether_quiet();
  Result<UniqueFd> write_state(std::vector<int>& descriptors);
  Error execute();
  void accept_control(bool accept);
  void fail(const Error& error);
  void rest();

  EventLoop& loop_;
  const Log& log_;
  const Program& program_;
  Actions actions_;
  Step step_ = Step::idle;
  bool accepting_ = true;
  Asker asker_;
  UniqueFd executable_;
  std::string version_;
  std::optional<ProgramProbe> probe_;
  Timer timer_;
  std::chrono::milliseconds quiet_by_{0};
};

// Lets a descriptor pass an execve, or not.
void set_close_on_exec(int fd, bool close);

}  // namespace mgr::manager
