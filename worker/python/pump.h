#pragma once

#include <chrono>
#include <optional>

#include "worker/life/worker.h"
#include "worker/python/py.h"

namespace mgr::python {

class Dispatcher;

// Turns the worker's loop inside of a loop of the application's choice (asyncio's own, uvloop's),
// which watches backend_fd() of it. Between two turns by the pump, what Python does to exchanges
// may bring the next turn forward: then a turn is asked for. With the GIL, on the loop's thread.
class Pump {
 public:
  explicit Pump(Dispatcher& dispatcher) : dispatcher_(dispatcher) {}

  // `ask()` makes the other loop call turn() soon; `worker` outlives this.
  void attach(worker::Worker& worker, Ref ask);
  bool attached() const { return worker_ != nullptr; }

  // Turns until nothing is left to do at once, and dispatches. `next`: in how long another turn is
  // due; nullopt: when the descriptor is readable. False with an exception set.
  bool turn(std::optional<std::chrono::milliseconds>& next);
  // An exchange, or the notes for Python, may have changed.
  void touched();

 private:
  using Time = std::chrono::milliseconds;  // on the worker's loop's clock
  std::optional<Time> due() const;

  Dispatcher& dispatcher_;
  worker::Worker* worker_ = nullptr;
  Ref ask_;
  std::optional<Time> planned_;  // the turn that the other loop will make by itself
  bool turning_ = false;
  bool asked_ = false;
};

}  // namespace mgr::python
