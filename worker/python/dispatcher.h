#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "common/base/log.h"
#include "common/server/exchange.h"
#include "worker/life/worker.h"
#include "worker/python/pump.h"
#include "worker/python/py.h"
#include "worker/python/request.h"
#include "worker/python/scope.h"

namespace mgr::python {

// Brings what the server does to Python. Its callbacks from the loop only note exchanges;
// dispatch() acts on one batch of notes, with the GIL held, between two turns of the loop. So
// Python never runs inside uv_run. Owned by the worker's Python object; outlives the server.
class Dispatcher final : public server::Application, public worker::Host {
 public:
  explicit Dispatcher(const Log& log) : log_(log) {}

  enum class Style { single_callable, double_callable };  // ASGI 3, ASGI 2
  // How a request's task comes to its first step, in the batch in which it is made where that is
  // possible: `eager` by asyncio.Task's eager_start (3.12); `stepped` by taking the step that the
  // task asks the loop's call_soon() for (see take_step()), and running it as the loop would;
  // `queued` leaves it to the loop.
  enum class Start { eager, stepped, queued };
  struct Callables {
    Ref application;
    Ref loop;           // the running asyncio loop
    Ref log_exception;  // log_exception(request line, exception)
    Ref state;          // the lifespan's state dict
    Ref step_type;      // type of what a task asks call_soon() for; for Start::stepped
    std::string root_path;
    Style style = Style::single_callable;
    Start start = Start::queued;
  };
  // Before the loop turns. `on_leave("shut_down" | "cut" | "now")` is called from dispatch().
  void attach(worker::Worker& worker, Ref on_leave);
  // Before the first request. False with an exception set.
  bool open(Callables callables);
  // asyncio's debug mode wants to see every callback: every task is `queued` then.
  void use_loop_for_steps(bool use) { use_loop_for_steps_ = use; }
  // The worker's loop is turned by this pump, which outlives this.
  void use_pump(Pump& pump) { pump_ = &pump; }
  // What Python has done to an exchange may need a turn of the worker's loop.
  void touched() {
    if (pump_) pump_->touched();
  }
  // Requests go through loop.create_task() while the application has set a task factory.
  void use_create_task(bool use) { use_create_task_ = use; }

  // server::Application and worker::Host: without the GIL.
  void on_request(server::Exchange& exchange) noexcept override;
  void on_leave(worker::Leave how) noexcept override;

  // Starts a task for each new request, wakes the waiting ones, tells of the end. False with an
  // exception set only for on_leave's.
  bool dispatch();
  bool has_work() const { return !fresh_.empty() || !woken_.empty() || leave_; }

  // How many timers asyncio has; a negative number where its loop has to be asked after each batch.
  Py_ssize_t scheduled_timers() const;
  // Neither a callback nor a new timer came from the last batch: waiting may go on without a round
  // through asyncio's own loop. `scheduled`: scheduled_timers() before it.
  bool may_wait_on(Py_ssize_t scheduled) const;

  // Called by requests.
  void mark(Request& request) noexcept;
  void forget(Request& request);
  Ref build_scope(const server::Request& request) { return scopes_->build(request); }
  const Callables& callables() const { return callables_; }
  // Called by call_soon() of the loop. While a batch of tasks is made, a task's first step is kept
  // to be run at the batch's end, and `context` taken; false: nothing was.
  bool take_step(PyObject* callback, Ref& context);
  const Log& log() const { return log_; }
  void log_exception(const std::string& line, PyObject* exception);
  // Memory for the end of a request whose application has used up all there is.
  void spend_reserve() { reserve_.reset(); }
  void restore_reserve();
  std::vector<server::HeaderField>& scratch_headers() { return scratch_headers_; }

 private:
  void start_batch();
  void run_steps();
  void start(server::Exchange& exchange);
  Ref make_task(PyObject* coroutine);
  bool tell_leave();

  const Log& log_;
  Callables callables_;
  Ref on_leave_;
  worker::Worker* worker_ = nullptr;
  std::optional<ScopeBuilder> scopes_;
  Ref task_arguments_;    // {"loop": loop, "eager_start": True} or with a name
  Ref queued_arguments_;  // {"loop": loop}
  Ref ready_;             // the loop's deque of callbacks; null where it has none that we know
  Pump* pump_ = nullptr;
  bool use_create_task_ = false;
  bool use_loop_for_steps_ = false;
  bool taking_steps_ = false;
  std::vector<server::Exchange*> fresh_;
  std::vector<server::Exchange*> spare_batch_;  // empty: its memory alone
  struct Step {
    Ref callback;
    Ref context;
  };
  std::vector<Step> steps_;
  std::vector<Step> spare_steps_;  // likewise
  std::vector<Request*> woken_;
  std::vector<PyObject*> running_;  // a reference to each request that has not concluded
  std::optional<worker::Leave> leave_;
  std::vector<server::HeaderField> scratch_headers_;
  // Large enough to be a mapping of its own, which goes back to the system; never touched.
  static constexpr std::size_t kReserve = 1 << 20;
  std::unique_ptr<char[]> reserve_{new char[kReserve]};
};

}  // namespace mgr::python
