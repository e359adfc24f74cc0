#include "worker/python/request.h"

#include <new>
#include <utility>

#include "worker/python/awaitables.h"
#include "worker/python/constants.h"
#include "worker/python/dispatcher.h"
#include "worker/python/forked.h"

namespace mgr::python {
namespace {

PyTypeObject* request_type = nullptr;

// The iterator that drives what the application returned: a coroutine itself, or what __await__ of
// another awaitable gives.
Ref driver_of(Ref awaitable) {
  const Constants& c = constants();
  if (reinterpret_cast<PyObject*>(Py_TYPE(awaitable.get())) == c.coroutine_type) return awaitable;
  Ref iterator = Ref::take(PyObject_CallMethodObjArgs(awaitable.get(), c.await, nullptr));
  if (!iterator && PyErr_ExceptionMatches(PyExc_AttributeError)) {
    PyErr_Format(PyExc_TypeError, "the application returned %R, which cannot be awaited",
                 awaitable.get());
  }
  return iterator;
}

}  // namespace

Request::Request(Dispatcher& dispatcher, server::Exchange& exchange)
    : dispatcher_(dispatcher), exchange_(&exchange) {
  exchange.set_observer(this);
}

Request::~Request() {
  for (PyObject* future : receivers_) Py_DECREF(future);
  for (PyObject* future : senders_) Py_DECREF(future);
}

Request& Request::of(PyObject* object) {
  return reinterpret_cast<RequestObject*>(object)->request;
}

Ref Request::create(Dispatcher& dispatcher, server::Exchange& exchange) {
  auto* object = PyObject_New(RequestObject, request_type);
  if (!object) return {};
  new (&object->request) Request(dispatcher, exchange);
  return Ref::take(reinterpret_cast<PyObject*>(object));
}

void Request::on_body(server::Exchange&) noexcept {
  if (!receivers_.empty()) dispatcher_.mark(*this);
}
void Request::on_drain(server::Exchange& exchange) noexcept {
  full_ = false;
  // A file that was the last of the response completes it when it has been sent.
  const bool disconnect_due = !receivers_.empty() && exchange.response_complete();
  if (!senders_.empty() || disconnect_due) dispatcher_.mark(*this);
}
void Request::on_disconnect(server::Exchange&) noexcept {
  if (!receivers_.empty() || !senders_.empty()) dispatcher_.mark(*this);
}

// For receive() it is a disconnect, since hardly any client shuts down one direction alone and then
// waits; what the application sends all the same still goes to one that does.
void Request::on_input_end(server::Exchange&) noexcept {
  if (!receivers_.empty()) dispatcher_.mark(*this);
}

// The client has its answer at once, whatever the task makes of its cancellation.
void Request::on_timeout(server::Exchange& exchange) noexcept {
  exchange.time_out();
  timed_out_ = must_cancel_ = true;
  dispatcher_.mark(*this);
}

void Request::wake() {
  if (std::exchange(must_cancel_, false)) cancel_task();
  wake_all(receivers_);
  wake_all(senders_);
}

void Request::cancel_task() {
  if (!task_) return;
  Ref done = Ref::take(PyObject_CallMethod(task_.get(), "cancel", "s", "request_timeout"));
  if (!done) PyErr_Clear();
}

void Request::hold_task(Ref task) {
  task_ = std::move(task);
}

std::string Request::line() const {
  if (!exchange_) return "request";
  const server::Request& head = exchange_->request();
  return std::string(head.method) + " " + std::string(head.target);
}

PySendResult Request::step(PyObject* self, PyObject* value, PyObject** result) {
  end_if_forked();  // the loop has gone on
  if (!inner_) {
    if (started_) {
      PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
      *result = nullptr;
      return PYGEN_ERROR;
    }
    started_ = true;
    if (!begin(self)) return ended_by_exception(result);
  }
  const PySendResult outcome = PyIter_Send(inner_.get(), value, result);
  end_if_forked();
  switch (outcome) {
    case PYGEN_NEXT:
      return PYGEN_NEXT;
    case PYGEN_RETURN:
      Py_DECREF(*result);
      conclude(Outcome::returned, nullptr);
      *result = none();
      return PYGEN_RETURN;
    case PYGEN_ERROR:
      return ended_by_exception(result);
  }
  return PYGEN_ERROR;
}

bool Request::begin(PyObject* self) {
  Ref scope = dispatcher_.build_scope(exchange_->request());
  Ref receive = scope ? new_receive(self) : Ref();
  Ref send = receive ? new_send(self) : Ref();
  if (!send) return false;
  Ref awaitable = Ref::take(call_application(scope.get(), receive.get(), send.get()));
  if (!awaitable) return false;
  inner_ = driver_of(std::move(awaitable));
  return static_cast<bool>(inner_);
}

PyObject* Request::call_application(PyObject* scope, PyObject* receive, PyObject* send) {
  const auto& callables = dispatcher_.callables();
  PyObject* application = callables.application.get();
  switch (callables.style) {
    case Dispatcher::Style::single_callable:
      return PyObject_CallFunctionObjArgs(application, scope, receive, send, nullptr);
    case Dispatcher::Style::double_callable:
      break;
  }
  Ref instance = Ref::take(PyObject_CallFunctionObjArgs(application, scope, nullptr));
  if (!instance) return nullptr;
  return PyObject_CallFunctionObjArgs(instance.get(), receive, send, nullptr);
}

PySendResult Request::throw_in(PyObject* args, PyObject** result) {
  *result = nullptr;
  if (!inner_) {  // cancelled before its first step, or over
    started_ = true;
    set_thrown(args);
    if (exchange_) return ended_by_exception(result);
    return PYGEN_ERROR;
  }
  Ref thrower = Ref::take(PyObject_GetAttr(inner_.get(), constants().throw_));
  if (thrower) {
    *result = PyObject_Call(thrower.get(), args, nullptr);
    if (*result) {
      end_if_forked();
      return PYGEN_NEXT;
    }
  } else {
    PyErr_Clear();
    set_thrown(args);
  }
  if (!PyErr_ExceptionMatches(PyExc_StopIteration)) return ended_by_exception(result);
  PyErr_Clear();
  conclude(Outcome::returned, nullptr);
  *result = none();
  return PYGEN_RETURN;
}

bool Request::close() {
  started_ = true;
  if (inner_) {
    Ref done = Ref::take(PyObject_CallMethodObjArgs(inner_.get(), constants().close, nullptr));
    if (!done && !PyErr_ExceptionMatches(PyExc_AttributeError)) return false;
    PyErr_Clear();  // an iterator without close()
  }
  if (exchange_) conclude(Outcome::cancelled, nullptr);
  return true;
}

// A failure of the application ends its request, not the task, so that SystemExit does not end the
// worker; cancellation must reach the task.
PySendResult Request::ended_by_exception(PyObject** result) {
  end_if_forked();
  const bool cancelled = PyErr_ExceptionMatches(constants().cancelled_error) != 0;
  const bool exhausted = PyErr_ExceptionMatches(PyExc_MemoryError) != 0;
  if (exhausted) dispatcher_.spend_reserve();
  Ref exception = take_exception();
  conclude(cancelled ? Outcome::cancelled : Outcome::raised, exception.get());
  if (exhausted) dispatcher_.restore_reserve();
  if (cancelled) {
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.get())), exception.get());
    *result = nullptr;
    return PYGEN_ERROR;
  }
  *result = none();
  return PYGEN_RETURN;
}

void Request::conclude(Outcome outcome, PyObject* exception) {
  end_if_forked();
  CHECK(exchange_);
  const bool heard = !exchange_->disconnected();
  const bool stopped = outcome == Outcome::cancelled && (!heard || timed_out_);
  if (outcome != Outcome::returned && exception && !stopped) {
    dispatcher_.log_exception(line(), exception);
  }
  if (heard && !exchange_->response_complete()) answer_for_the_application(outcome);
  server::Exchange* exchange = std::exchange(exchange_, nullptr);
  exchange->set_observer(nullptr);
  must_cancel_ = false;
  wake();
  inner_.clear();
  task_.clear();
  exchange->release();
  dispatcher_.touched();
  dispatcher_.forget(*this);
}

// RFC 9110 15.6.1, while nothing has been sent; else the client must notice that the end is
// missing.
void Request::answer_for_the_application(Outcome outcome) {
  if (outcome == Outcome::returned && exchange_->input_ended()) {
    return exchange_->abort();  // as receive() said, nobody reads
  }
  if (outcome == Outcome::returned) {
    dispatcher_.log().error("{}: the application returned without {} the response", line(),
                            exchange_->head_sent() ? "completing" : "starting");
  }
  if (exchange_->head_flushed()) {
    exchange_->abort();
  } else {
    exchange_->respond(500, "text/plain; charset=utf-8", "Internal Server Error");
  }
}

PyObject* Request::new_waiter(Waiting what) {
  const Constants& c = constants();
  Ref future = Ref::take(
      PyObject_CallMethodObjArgs(dispatcher_.callables().loop.get(), c.create_future, nullptr));
  if (!future || PyObject_SetAttr(future.get(), c.future_blocking, Py_True) != 0) return nullptr;
  auto& waiters = what == Waiting::for_message ? receivers_ : senders_;
  waiters.push_back(future.new_ref());
  return future.release();
}

void Request::drop_waiter(PyObject* future) {
  if (std::erase(receivers_, future) + std::erase(senders_, future) > 0) Py_DECREF(future);
}

void Request::wake_all(std::vector<PyObject*>& waiters) {
  if (waiters.empty()) return;
  const Constants& c = constants();
  std::vector<PyObject*> woken;
  woken.swap(waiters);
  for (PyObject* future : woken) {
    Ref done = Ref::take(PyObject_CallMethodObjArgs(future, c.done, nullptr));
    if (done.get() == Py_False) {
      Ref set = Ref::take(PyObject_CallMethodObjArgs(future, c.set_result, Py_None, nullptr));
    }
    if (PyErr_Occurred()) PyErr_Clear();
    Py_DECREF(future);
  }
}

// ---- the Python type

namespace {

void request_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  Request::of(self).~Request();
  PyObject_Free(self);
  Py_DECREF(type);
}

PySendResult request_am_send(PyObject* self, PyObject* value, PyObject** result) {
  return Request::of(self).step(self, value, result);
}

PyObject* request_send(PyObject* self, PyObject* value) {
  PyObject* result = nullptr;
  const PySendResult outcome = Request::of(self).step(self, value, &result);
  return as_method_send(outcome, result);
}

PyObject* request_iternext(PyObject* self) {
  PyObject* result = nullptr;
  const PySendResult outcome = Request::of(self).step(self, Py_None, &result);
  return as_iternext(outcome, result);
}

PyObject* request_throw(PyObject* self, PyObject* args) {
  PyObject* result = nullptr;
  const PySendResult outcome = Request::of(self).throw_in(args, &result);
  return as_method_send(outcome, result);
}

PyObject* request_close(PyObject* self, PyObject*) {
  return Request::of(self).close() ? none() : nullptr;
}

PyObject* request_await(PyObject* self, PyObject*) {
  Py_INCREF(self);
  return self;
}

PyObject* request_self(PyObject* self) {
  return request_await(self, nullptr);
}

// cr_frame and its siblings are the application's coroutine's: asyncio prints stacks by them.
PyObject* request_inner_attribute(PyObject* self, void* name) {
  PyObject* inner = Request::of(self).inner();
  if (!inner) return none();
  PyObject* value = PyObject_GetAttrString(inner, static_cast<const char*>(name));
  if (value || !PyErr_ExceptionMatches(PyExc_AttributeError)) return value;
  PyErr_Clear();
  return none();
}

PyObject* request_running_attribute(PyObject* self, void* name) {
  PyObject* value = request_inner_attribute(self, name);
  if (value != Py_None) return value;
  Py_DECREF(value);
  return PyBool_FromLong(0);
}

PyObject* request_name(PyObject*, void*) {
  return PyUnicode_FromString("request");
}

PyObject* request_line(PyObject* self, void*) {
  return string(Request::of(self).line()).release();
}

PyMethodDef request_methods[] = {
    {"send", request_send, METH_O, nullptr},
    {"throw", request_throw, METH_VARARGS, nullptr},
    {"close", request_close, METH_NOARGS, nullptr},
    {"__await__", request_await, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

char cr_frame[] = "cr_frame";
char cr_code[] = "cr_code";
char cr_await[] = "cr_await";
char cr_running[] = "cr_running";
char cr_suspended[] = "cr_suspended";

PyGetSetDef request_attributes[] = {
    {"cr_frame", request_inner_attribute, nullptr, nullptr, cr_frame},
    {"cr_code", request_inner_attribute, nullptr, nullptr, cr_code},
    {"cr_await", request_inner_attribute, nullptr, nullptr, cr_await},
    {"cr_running", request_running_attribute, nullptr, nullptr, cr_running},
    {"cr_suspended", request_running_attribute, nullptr, nullptr, cr_suspended},
    {"request_line", request_line, nullptr, "GET /path", nullptr},
    {"__name__", request_name, nullptr, nullptr, nullptr},
    {"__qualname__", request_name, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

template <typename Function>
void* slot(Function function) {
  return reinterpret_cast<void*>(function);
}

PyType_Slot request_slots[] = {
    {Py_tp_dealloc, slot(request_dealloc)},   {Py_am_await, slot(request_self)},
    {Py_am_send, slot(request_am_send)},      {Py_tp_iter, slot(request_self)},
    {Py_tp_iternext, slot(request_iternext)}, {Py_tp_methods, request_methods},
    {Py_tp_getset, request_attributes},       {0, nullptr},
};

PyType_Spec request_spec = {"_mgr_core.Request", sizeof(RequestObject), 0,
                            Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, request_slots};

}  // namespace

bool Request::make_types(PyObject* module) {
  request_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&request_spec));
  if (!request_type) return false;
  Py_INCREF(reinterpret_cast<PyObject*>(request_type));
  return PyModule_AddObject(module, "Request", reinterpret_cast<PyObject*>(request_type)) == 0 &&
         make_awaitable_types();
}

}  // namespace mgr::python
