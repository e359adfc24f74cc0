#include "manager/supervisor/worker_state.h"

namespace mgr::manager {
namespace {

using S = WorkerState;
using E = WorkerEvent;
using A = WorkerAction;

WorkerTransition from_forking(E event) {
  switch (event) {
    case E::forked:
      return {S::booting, A::none};
    case E::ready:
      return {S::unclaimed, A::none};
    case E::boot_failed:
      return {S::failed, A::expect_exit};
    case E::drain:
      return {S::draining, A::quit};
    case E::deadline:
      return {S::forking, A::kill_mold};
    case E::fork_failed:
    case E::exited:
      return {S::gone, A::forget};
    case E::serve:
    case E::hold:
      return {S::forking, A::bug};
  }
  return {S::forking, A::bug};
}

WorkerTransition from_unclaimed(E event) {
  switch (event) {
    case E::forked:
      return {S::standing, A::note_ready};
    case E::boot_failed:
      return {S::failed, A::expect_exit};
    case E::drain:
      return {S::draining, A::quit};
    case E::deadline:
      return {S::unclaimed, A::kill_mold};
    case E::fork_failed:
    case E::exited:
      return {S::gone, A::forget};
    case E::ready:
    case E::serve:
    case E::hold:
      return {S::unclaimed, A::bug};
  }
  return {S::unclaimed, A::bug};
}

WorkerTransition from_booting(E event) {
  switch (event) {
    case E::ready:
      return {S::standing, A::note_ready};
    case E::boot_failed:
      return {S::failed, A::expect_exit};
    case E::drain:
      return {S::draining, A::quit};
    case E::deadline:
      return {S::killed, A::kill};
    case E::exited:
      return {S::gone, A::forget};
    case E::forked:
    case E::fork_failed:
    case E::serve:
    case E::hold:
      return {S::booting, A::bug};
  }
  return {S::booting, A::bug};
}

WorkerTransition from_standing(E event) {
  switch (event) {
    case E::serve:
      return {S::serving, A::give_sockets};
    case E::drain:
      return {S::draining, A::send_drain};
    case E::deadline:
      return {S::killed, A::kill};
    case E::exited:
      return {S::gone, A::forget};
    case E::forked:
    case E::fork_failed:
    case E::ready:
    case E::boot_failed:
    case E::hold:
      return {S::standing, A::bug};
  }
  return {S::standing, A::bug};
}

WorkerTransition from_serving(E event) {
  switch (event) {
    case E::hold:
      return {S::held, A::send_hold};
    case E::drain:
      return {S::draining, A::send_drain};
    case E::deadline:
      return {S::killed, A::kill};
    case E::exited:
      return {S::gone, A::forget};
    case E::forked:
    case E::fork_failed:
    case E::ready:
    case E::boot_failed:
    case E::serve:
      return {S::serving, A::bug};
  }
  return {S::serving, A::bug};
}

WorkerTransition from_held(E event) {
  switch (event) {
    case E::serve:
      return {S::serving, A::give_sockets};
    case E::drain:
      return {S::draining, A::send_drain};
    case E::deadline:
      return {S::killed, A::kill};
    case E::exited:
      return {S::gone, A::forget};
    case E::forked:
    case E::fork_failed:
    case E::ready:
    case E::boot_failed:
    case E::hold:
      return {S::held, A::bug};
  }
  return {S::held, A::bug};
}

// Draining, failed and killed workers are on their way out: only their end matters, and that it
// comes in time. Their late Ready or BootFailed, and the pid that the mold reports late, are noted
// by the caller and change nothing.
WorkerTransition from_leaving(S state, E event) {
  switch (event) {
    case E::deadline:
      return state == S::killed ? WorkerTransition{S::killed, A::none}
                                : WorkerTransition{S::killed, A::kill};
    case E::fork_failed:
    case E::exited:
      return {S::gone, A::forget};
    case E::forked:
    case E::ready:
    case E::boot_failed:
    case E::drain:
      return {state, A::none};
    case E::serve:
    case E::hold:
      return {state, A::bug};
  }
  return {state, A::bug};
}

}  // namespace

WorkerTransition next(WorkerState state, WorkerEvent event) {
  switch (state) {
    case S::forking:
      return from_forking(event);
    case S::unclaimed:
      return from_unclaimed(event);
    case S::booting:
      return from_booting(event);
    case S::standing:
      return from_standing(event);
    case S::serving:
      return from_serving(event);
    case S::held:
      return from_held(event);
    case S::draining:
    case S::failed:
    case S::killed:
      return from_leaving(state, event);
    case S::gone:
      return {S::gone, A::bug};
  }
  return {state, A::bug};
}

std::string_view to_string(WorkerState state) {
  switch (state) {
    case S::forking:
      return "forking";
    case S::unclaimed:
      return "unclaimed";
    case S::booting:
      return "booting";
    case S::standing:
      return "standing";
    case S::serving:
      return "serving";
    case S::held:
      return "held";
    case S::draining:
      return "draining";
    case S::failed:
      return "failed";
    case S::killed:
      return "killed";
    case S::gone:
      return "gone";
  }
  return "?";
}

std::string_view to_string(WorkerEvent event) {
  switch (event) {
    case E::forked:
      return "forked";
    case E::fork_failed:
      return "fork_failed";
    case E::ready:
      return "ready";
    case E::boot_failed:
      return "boot_failed";
    case E::serve:
      return "serve";
    case E::hold:
      return "hold";
    case E::drain:
      return "drain";
    case E::deadline:
      return "deadline";
    case E::exited:
      return "exited";
  }
  return "?";
}

}  // namespace mgr::manager
