#include "worker/python/dispatcher.h"

#include <utility>

#include "worker/python/constants.h"

namespace mgr::python {
namespace {

const char* name_of(worker::Leave how) {
  switch (how) {
    case worker::Leave::shut_down:
      return "shut_down";
    case worker::Leave::cut:
      return "cut";
    case worker::Leave::now:
      return "now";
  }
  return "now";
}

}  // namespace

void Dispatcher::attach(worker::Worker& worker, Ref on_leave) {
  worker_ = &worker;
  on_leave_ = std::move(on_leave);
}

bool Dispatcher::open(Callables callables) {
  callables_ = std::move(callables);
  scopes_.emplace(callables_.state.get(), callables_.root_path);
  if (!scopes_->ready()) return false;
  task_arguments_ = Ref::take(PyDict_New());
  if (!task_arguments_) return false;
  if (PyDict_SetItemString(task_arguments_.get(), "loop", callables_.loop.get()) != 0) return false;
  return callables_.start == Start::queued ||
         PyDict_SetItemString(task_arguments_.get(), "eager_start", Py_True) == 0;
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
  if (!fresh_.empty()) {
    batch_.swap(fresh_);
    for (server::Exchange* exchange : batch_) start(*exchange);
    batch_.clear();
  }
  return !leave_ || tell_leave();
}

bool Dispatcher::tell_leave() {
  const char* how = name_of(*leave_);
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
  return Ref::take(PyObject_Call(c.task_type, arguments.get(), task_arguments_.get()));
}

void Dispatcher::log_exception(const std::string& line, PyObject* exception) {
  Ref text = string(line);
  Ref done = text && exception
                 ? Ref::take(PyObject_CallFunctionObjArgs(callables_.log_exception.get(), text.get(),
                                                          exception, nullptr))
                 : Ref();
  if (done) return;
  PyErr_Clear();
  log_.error("{}: the application failed, and its exception could not be printed", line);
}

}  // namespace mgr::python
