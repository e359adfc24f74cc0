#pragma once

#include <string_view>

namespace mgr::manager {

// The life of one worker as the supervisor sees it (the worker's own view is worker/life/).
//
//             fork asked                                 process gone
//                 │                                          │
//   forking ──forked──▶ booting ──ready──▶ standing          │   any state ──exited──▶ gone
//      │                                    │   ▲            │
//    ready                                serve │            │
//      ▼                                    ▼   │            │
//   unclaimed ──forked──▶ standing       serving ──hold──▶ held ──serve──▶ serving
//                                            │               │
//                                          drain           drain
//                                            ▼               ▼
//                                         draining
//
//   booting, standing, serving, held, draining, failed ──deadline──▶ killed
//
// forking    the mold was asked; neither pid nor Ready is known
// unclaimed  Ready came before the mold's report: no pid yet
// booting    the process exists; application and lifespan are starting
// standing   ready, without listening sockets (the probation of a reload's first worker, or the
//            instant before it is given sockets)
// serving    has listening sockets
// held       replaced during a reload without preload: accepts nothing, ends nothing, can return
// draining   told to leave; bounded by graceful_timeout
// failed     said that it cannot start, and leaves by itself
// killed     was sent SIGKILL
// gone       reaped, or never came to be
enum class WorkerState {
  forking,
  unclaimed,
  booting,
  standing,
  serving,
  held,
  draining,
  failed,
  killed,
  gone,
};

enum class WorkerEvent {
  forked,       // the mold reports the pid
  fork_failed,  // the mold could not fork, or is gone
  ready,        // the worker says Ready
  boot_failed,  // the worker says BootFailed
  serve,        // the supervisor gives it sockets
  hold,         // the supervisor takes them, for a while
  drain,        // the supervisor tells it to leave
  deadline,     // its time for the present state is over (ready ones have none, unless they
                // closed their channel and stay)
  exited,       // reaped
};

enum class WorkerAction {
  none,
  note_ready,    // record when it became ready; it may be given sockets
  give_sockets,  // grant its listening sockets
  send_hold,
  send_drain,
  quit,         // not serving yet: nothing to finish, tell it to leave at once
  expect_exit,  // bound the time that it takes to leave
  kill,         // SIGKILL
  kill_mold,    // it never appeared: its mold hangs
  forget,       // remove it from the book
  bug,          // cannot happen: log it, change nothing
};

struct WorkerTransition {
  WorkerState state;
  WorkerAction action;
  bool operator==(const WorkerTransition&) const = default;
};

// Pure: no clock, pid or system call.
WorkerTransition next(WorkerState state, WorkerEvent event);

std::string_view to_string(WorkerState state);
std::string_view to_string(WorkerEvent event);

}  // namespace mgr::manager
