#include "worker/life/life.h"

#include <cstdlib>

namespace mgr::worker {
namespace {

Step in_booting(Event event) {
  constexpr State here = State::booting;
  switch (event) {
    case Event::booted:
      return {State::ready, Action::send_ready};
    case Event::hold:
      return {here, Action::stop_accepting};
    case Event::drain:
    case Event::quit:
    case Event::supervisor_gone:
      return {State::leaving, Action::leave_now};
    case Event::listen:
    case Event::release:
    case Event::idle:
    case Event::deadline:
      return {here, Action::none};
  }
  std::abort();
}

// ready, serving and holding differ only in what they are called from outside: all have a running
// application and open or future connections.
Step in_service(State here, Event event) {
  switch (event) {
    case Event::listen:
      return {State::serving, Action::accept};
    case Event::release:
      return {here, Action::release};
    case Event::hold:
      return {State::holding, Action::stop_accepting};
    case Event::drain:
    case Event::supervisor_gone:
      return {State::draining, Action::begin_drain};
    case Event::quit:
      return {State::leaving, Action::leave_now};
    case Event::booted:
    case Event::idle:
    case Event::deadline:
      return {here, Action::none};
  }
  std::abort();
}

Step in_draining(Event event) {
  constexpr State here = State::draining;
  switch (event) {
    case Event::drain:
      return {here, Action::tighten_deadline};
    case Event::quit:
      return {State::leaving, Action::leave_now};
    case Event::idle:
      return {State::leaving, Action::shut_down};
    case Event::deadline:
      return {State::leaving, Action::cut_and_shut_down};
    case Event::booted:
    case Event::listen:
    case Event::release:
    case Event::hold:
    case Event::supervisor_gone:
      return {here, Action::none};
  }
  std::abort();
}

Step in_leaving(Event event) {
  constexpr State here = State::leaving;
  switch (event) {
    case Event::drain:
      return {here, Action::tighten_deadline};
    case Event::quit:
    case Event::deadline:
      return {here, Action::exit_now};
    case Event::booted:
    case Event::listen:
    case Event::release:
    case Event::hold:
    case Event::supervisor_gone:
    case Event::idle:
      return {here, Action::none};
  }
  std::abort();
}

}  // namespace

Step next(State state, Event event) {
  switch (state) {
    case State::booting:
      return in_booting(event);
    case State::ready:
    case State::serving:
    case State::holding:
      return in_service(state, event);
    case State::draining:
      return in_draining(event);
    case State::leaving:
      return in_leaving(event);
  }
  std::abort();
}

const char* name(State state) {
  switch (state) {
    case State::booting:
      return "booting";
    case State::ready:
      return "ready";
    case State::serving:
      return "serving";
    case State::holding:
      return "holding";
    case State::draining:
      return "draining";
    case State::leaving:
      return "leaving";
  }
  std::abort();
}

}  // namespace mgr::worker
