#include "worker/python/awaitables.h"

#include <array>
#include <cstddef>

#include "worker/python/constants.h"
#include "worker/python/request.h"

namespace mgr::python {
namespace {

// Both awaitables have this shape. `message` is null in those of receive().
struct Awaitable {
  PyObject ob_base;
  PyObject* request;
  PyObject* message;
  PyObject* waiter;  // the future that was yielded last
  enum class Stage { fresh, waiting, over } stage;
};

// Memory of finished awaitables of one type, to be used again: two are made for nearly every
// request. Guarded by the GIL.
struct Pool {
  PyTypeObject* type = nullptr;
  std::array<Awaitable*, 32> spare{};
  std::size_t count = 0;

  Awaitable* make(PyObject* request, PyObject* message) {
    Awaitable* made;
    if (count > 0) {
      made = spare[--count];
      PyObject_Init(&made->ob_base, type);
    } else {
      made = PyObject_New(Awaitable, type);
      if (!made) return nullptr;
    }
    Py_INCREF(request);
    Py_XINCREF(message);
    made->request = request;
    made->message = message;
    made->waiter = nullptr;
    made->stage = Awaitable::Stage::fresh;
    return made;
  }

  void give_back(Awaitable* object) {
    if (count < spare.size()) {
      spare[count++] = object;
    } else {
      PyObject_Free(object);
    }
    Py_DECREF(type);
  }
};

Pool receives;
Pool sends;

Awaitable& as_awaitable(PyObject* self) {
  return *reinterpret_cast<Awaitable*>(self);
}
Request& request_of(const Awaitable& self) {
  return Request::of(self.request);
}

void forget_waiter(Awaitable& self) {
  if (!self.waiter) return;
  request_of(self).drop_waiter(self.waiter);
  Py_CLEAR(self.waiter);
}

PySendResult fail(Awaitable& self) {
  self.stage = Awaitable::Stage::over;
  return PYGEN_ERROR;
}

PySendResult wait(Awaitable& self, Request::Waiting what, PyObject** result) {
  forget_waiter(self);
  self.waiter = request_of(self).new_waiter(what);
  if (!self.waiter) return fail(self);
  self.stage = Awaitable::Stage::waiting;
  Py_INCREF(self.waiter);
  *result = self.waiter;
  return PYGEN_NEXT;
}

PySendResult complete(Awaitable& self, PyObject* value, PyObject** result) {
  forget_waiter(self);
  self.stage = Awaitable::Stage::over;
  *result = value;
  return PYGEN_RETURN;
}

PySendResult already_over(PyObject** result) {
  PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited receive() or send()");
  *result = nullptr;
  return PYGEN_ERROR;
}

PySendResult step_receive(PyObject* object, PyObject*, PyObject** result) {
  Awaitable& self = as_awaitable(object);
  *result = nullptr;
  if (self.stage == Awaitable::Stage::over) return already_over(result);
  PyObject* message = request_of(self).take_message();
  if (message) return complete(self, message, result);
  if (PyErr_Occurred()) return fail(self);
  return wait(self, Request::Waiting::for_message, result);
}

PySendResult step_waiting_send(Awaitable& self, PyObject** result) {
  switch (request_of(self).flow()) {
    case Request::Flow::open:
      return complete(self, none(), result);
    case Request::Flow::full:
      return wait(self, Request::Waiting::for_drain, result);
    case Request::Flow::gone:
      Request::raise_disconnected();
      return fail(self);
  }
  return fail(self);
}

PySendResult step_send(PyObject* object, PyObject*, PyObject** result) {
  Awaitable& self = as_awaitable(object);
  *result = nullptr;
  switch (self.stage) {
    case Awaitable::Stage::over:
      return already_over(result);
    case Awaitable::Stage::waiting:
      return step_waiting_send(self, result);
    case Awaitable::Stage::fresh:
      break;
  }
  switch (request_of(self).send(self.message)) {
    case Request::Sent::done:
      return complete(self, none(), result);
    case Request::Sent::full:
      return wait(self, Request::Waiting::for_drain, result);
    case Request::Sent::failed:
      return fail(self);
  }
  return fail(self);
}

using Step = PySendResult (*)(PyObject*, PyObject*, PyObject**);

template <Step step>
PyObject* method_send(PyObject* self, PyObject* value) {
  PyObject* result = nullptr;
  const PySendResult outcome = step(self, value, &result);
  return as_method_send(outcome, result);
}

template <Step step>
PyObject* iternext(PyObject* self) {
  PyObject* result = nullptr;
  const PySendResult outcome = step(self, Py_None, &result);
  return as_iternext(outcome, result);
}

PyObject* method_throw(PyObject* self, PyObject* args) {
  forget_waiter(as_awaitable(self));
  as_awaitable(self).stage = Awaitable::Stage::over;
  set_thrown(args);
  return nullptr;
}

PyObject* method_close(PyObject* self, PyObject*) {
  forget_waiter(as_awaitable(self));
  as_awaitable(self).stage = Awaitable::Stage::over;
  return none();
}

PyObject* method_await(PyObject* self, PyObject*) {
  Py_INCREF(self);
  return self;
}

PyObject* itself(PyObject* self) {
  return method_await(self, nullptr);
}

template <Pool& pool>
void dealloc(PyObject* object) {
  Awaitable& self = as_awaitable(object);
  forget_waiter(self);
  Py_XDECREF(self.message);
  Py_DECREF(self.request);
  pool.give_back(&self);
}

template <Step step>
PyMethodDef methods[] = {
    {"send", method_send<step>, METH_O, nullptr},
    {"throw", method_throw, METH_VARARGS, nullptr},
    {"close", method_close, METH_NOARGS, nullptr},
    {"__await__", method_await, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

template <typename Function>
void* slot(Function function) {
  return reinterpret_cast<void*>(function);
}

template <Step step, Pool& pool>
PyTypeObject* make_type(const char* name) {
  PyType_Slot slots[] = {
      {Py_tp_dealloc, slot(dealloc<pool>)},
      {Py_am_await, slot(itself)},
      {Py_am_send, slot(step)},
      {Py_tp_iter, slot(itself)},
      {Py_tp_iternext, slot(iternext<step>)},
      {Py_tp_methods, methods<step>},
      {0, nullptr},
  };
  PyType_Spec spec = {name, sizeof(Awaitable), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
}

PyObject* call_receive(PyObject* request, PyObject*) {
  return reinterpret_cast<PyObject*>(receives.make(request, nullptr));
}

PyObject* call_send(PyObject* request, PyObject* message) {
  return reinterpret_cast<PyObject*>(sends.make(request, message));
}

PyMethodDef receive_def = {"receive", call_receive, METH_NOARGS, nullptr};
PyMethodDef send_def = {"send", call_send, METH_O, nullptr};

}  // namespace

bool make_awaitable_types() {
  receives.type = make_type<step_receive, receives>("_mgr_core.Receive");
  sends.type = make_type<step_send, sends>("_mgr_core.Send");
  return receives.type && sends.type;
}

Ref new_receive(PyObject* request) {
  return Ref::take(PyCFunction_NewEx(&receive_def, request, nullptr));
}

Ref new_send(PyObject* request) {
  return Ref::take(PyCFunction_NewEx(&send_def, request, nullptr));
}

}  // namespace mgr::python
