#include "worker/python/dispatcher.h"

#include <new>
#include <utility>

#include "worker/python/constants.h"
#include "worker/python/context_run.h"

namespace mgr::python {

void Dispatcher::attach(worker::Worker& worker, Ref on_leave) {
  worker_ = &worker;
  on_leave_ = std::move(on_leave);
}

bool Dispatcher::open(Callables callables) {
  callables_ = std::move(callables);
  scopes_.emplace(callables_.state.get(), callables_.root_path);
  if (!scopes_->ready()) return false;
  ready_ = Ref::take(PyObject_GetAttr(callables_.loop.get(), constants().ready));
  if (!ready_) PyErr_Clear();
  queued_arguments_ = Ref::take(Py_BuildValue("{sO}", "loop", callables_.loop.get()));
  task_arguments_ = queued_arguments_ ? Ref::take(PyDict_Copy(queued_arguments_.get())) : Ref();
  if (!task_arguments_) return false;
  switch (callables_.start) {
    case Start::eager:
      return PyDict_SetItemString(task_arguments_.get(), "eager_start", Py_True) == 0;
    case Start::stepped:
    case Start::queued: {
      // Before 3.12 a Task without a name formats one at once, which costs a twentieth of a
      // request.
      Ref name = string("request");
      return name && PyDict_SetItemString(task_arguments_.get(), "name", name.get()) == 0;
    }
  }
  return false;
}

void Dispatcher::on_request(server::Exchange& exchange) noexcept {
  fresh_.push_back(&exchange);
  worker_->wake();
}

void Dispatcher::on_leave(worker::Leave how) noexcept {
  leave_ = how;
}

void Dispatcher::mark(Request& request) noexcept {
  if (!std::exchange(request.marked_, true)) woken_.push_back(&request);
  worker_->wake();
}

void Dispatcher::forget(Request& request) {
  if (request.marked_) std::erase(woken_, &request);
  const std::size_t index = request.index_;
  CHECK(index < running_.size() && &Request::of(running_[index]) == &request);
  PyObject* held = running_[index];
  running_[index] = running_.back();
  Request::of(running_[index]).index_ = index;
  running_.pop_back();
  Py_DECREF(held);  // the caller (a step of the request) holds another
}

bool Dispatcher::dispatch() {
  while (!woken_.empty()) {
    Request* request = woken_.back();
    woken_.pop_back();
    request->marked_ = false;
    request->wake();
  }
  if (!fresh_.empty()) start_batch();
  return !leave_ || tell_leave();
}

Py_ssize_t Dispatcher::scheduled_timers() const {
  if (!ready_ || use_loop_for_steps_) return -1;
  Ref timers = Ref::take(PyObject_GetAttr(callables_.loop.get(), constants().scheduled));
  const Py_ssize_t count = timers ? PyObject_Size(timers.get()) : -1;
  if (count < 0) PyErr_Clear();
  return count;
}

bool Dispatcher::may_wait_on(Py_ssize_t scheduled) const {
  if (scheduled < 0 || PyObject_Size(ready_.get()) != 0) return false;
  Ref stopping = Ref::take(PyObject_GetAttr(callables_.loop.get(), constants().stopping));
  if (!stopping) PyErr_Clear();
  return stopping.get() == Py_False && scheduled_timers() == scheduled;
}

void Dispatcher::start_batch() {
  taking_steps_ = callables_.start == Start::stepped && !use_loop_for_steps_;
  // The lists are this call's own: an application that runs its loop inside of a handler comes here
  // again while they are walked.
  std::vector<server::Exchange*> batch = std::move(spare_batch_);
  batch.swap(fresh_);
  for (server::Exchange* exchange : batch) start(*exchange);
  batch.clear();
  spare_batch_ = std::move(batch);
  taking_steps_ = false;
  run_steps();
}

bool Dispatcher::take_step(PyObject* callback, Ref& context) {
  if (!taking_steps_) return false;
  if (reinterpret_cast<PyObject*>(Py_TYPE(callback)) != callables_.step_type.get()) return false;
  steps_.push_back({Ref::borrow(callback), std::move(context)});
  return true;
}

void Dispatcher::run_steps() {
  if (steps_.empty()) return;
  std::vector<Step> steps = std::move(spare_steps_);
  steps.swap(steps_);
  for (const Step& step : steps) {
    PyObject* callback = step.callback.get();
    if (run_in_context(step.context.get(), &callback, 1)) continue;
    Ref exception = take_exception();
    log_exception("asyncio", exception.get());
  }
  steps.clear();
  spare_steps_ = std::move(steps);
}

bool Dispatcher::tell_leave() {
  const char* how = worker::name(*leave_);
  leave_.reset();
  return static_cast<bool>(Ref::take(PyObject_CallFunction(on_leave_.get(), "s", how)));
}

void Dispatcher::start(server::Exchange& exchange) {
  Ref coroutine = Request::create(*this, exchange);
  if (coroutine) {
    Request& request = Request::of(coroutine.get());
    request.index_ = running_.size();
    running_.push_back(coroutine.new_ref());
    Ref task = make_task(coroutine.get());
    if (task) {
      if (request.exchange_) request.hold_task(std::move(task));
      return;
    }
    Ref exception = take_exception();
    if (request.exchange_) request.conclude(Request::Outcome::raised, exception.get());
    return;
  }
  Ref exception = take_exception();
  log_exception(std::string(exchange.request().target), exception.get());
  exchange.respond(500, "text/plain; charset=utf-8", "Internal Server Error");
  exchange.release();
}

Ref Dispatcher::make_task(PyObject* coroutine) {
  const Constants& c = constants();
  if (use_create_task_) {
    return Ref::take(
        PyObject_CallMethodObjArgs(callables_.loop.get(), c.create_task, coroutine, nullptr));
  }
  Ref arguments = Ref::take(PyTuple_Pack(1, coroutine));
  if (!arguments) return {};
  const Ref& named = use_loop_for_steps_ ? queued_arguments_ : task_arguments_;
  return Ref::take(PyObject_Call(c.task_type, arguments.get(), named.get()));
}

void Dispatcher::restore_reserve() {
  if (!reserve_) reserve_.reset(new (std::nothrow) char[kReserve]);
}

void Dispatcher::log_exception(const std::string& line, PyObject* exception) {
  Ref text = string(line);
  Ref done = text && exception
                 ? Ref::take(PyObject_CallFunctionObjArgs(callables_.log_exception.get(),
                                                          text.get(), exception, nullptr))
                 : Ref();
  if (done) return;
  PyErr_Clear();
  log_.error("{}: the application failed, and its exception could not be printed", line);
}

}  // namespace mgr::python
