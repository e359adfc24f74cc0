#pragma once

namespace mgr::worker {

// The life of a worker, as one pure function. The supervisor's view of the same process has other
// names (manager/supervisor); these are the worker's own.
//
//   booting   loads the application (without preload), runs the lifespan's start-up
//   ready     start-up is finished, the loop turns, nothing is accepted yet
//   serving   accepts on what Listen brought
//   holding   accepts nothing, closes nothing, goes on serving open connections
//   draining  accepts nothing, finishes what it has, until idle or the deadline
//   leaving   the server is done; shuts the application down and exits
//
//            booted      listen      release  hold        drain       quit       gone        idle
//            deadline
// booting    ready       -           -        stop        leaving     leaving    leaving     - -
// ready      -           serving     release  holding     draining    leaving    draining    - -
// serving    -           accept      release  holding     draining    leaving    draining    - -
// holding    -           serving     release  stop        draining    leaving    draining    - -
// draining   -           -           -        -           tighten     leaving    - leaving  leaving
// leaving    -           -           -        -           tighten     exit       -           - exit
//
// (A state is where the pair leads; a verb is an action in the same state.) Descriptors of a Listen
// that is not obeyed are closed. In `booting` nothing was served, so leaving does no more than end
// the start-up.
enum class State { booting, ready, serving, holding, draining, leaving };

enum class Event {
  booted,  // the host: application loaded, lifespan started
  listen,  // the supervisor's commands …
  release,
  hold,
  drain,
  quit,
  supervisor_gone,  // end of file on the channel
  idle,             // the server has neither connection nor request left
  deadline,         // the drain's time is over
};

enum class Action {
  none,
  send_ready,
  accept,             // watch the sockets that came with the command
  release,            // stop watching the sockets that it names
  stop_accepting,     // on everything; answered by StoppedAccepting
  begin_drain,        // stop accepting, answer, let the server run dry, arm the deadline
  tighten_deadline,   // a later Drain may only shorten the time left
  shut_down,          // nothing is in flight: the application's shutdown, then exit 0
  cut_and_shut_down,  // the same after cutting every connection and task
  leave_now,          // cut everything, no lifespan, exit 0
  exit_now,           // was leaving already, and takes too long: exit 0 without more
};

struct Step {
  State state;
  Action action;
  bool operator==(const Step&) const = default;
};

Step next(State state, Event event);

const char* name(State state);

}  // namespace mgr::worker
