#include "worker/python/loop_core.h"

#include <cmath>

#include "worker/python/constants.h"
#include "worker/python/forked.h"
#include "worker/python/handle.h"

namespace mgr::python {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// asyncio's own limit of one wait.
constexpr double kLongestWait = 24 * 3600;
// Below so many timers CPython leaves cancelled ones where they are.
constexpr Py_ssize_t kFewTimers = 100;

// time.monotonic(), which is the clock of asyncio's loop.
double now_seconds() {
  return std::chrono::duration<double>(steady_clock::now().time_since_epoch()).count();
}

// False with an exception set.
bool when_of(PyObject* timer, double& when) {
  Ref value = Ref::take(PyObject_GetAttr(timer, constants().when));
  when = value ? PyFloat_AsDouble(value.get()) : -1.0;
  return value && !(when == -1.0 && PyErr_Occurred());
}

Ref timers_of(PyObject* loop) {
  Ref timers = Ref::take(PyObject_GetAttr(loop, constants().scheduled));
  if (!timers || PyList_Check(timers.get())) return timers;
  PyErr_SetString(PyExc_TypeError, "the loop's _scheduled is not a list");
  return {};
}

}  // namespace

bool BuiltinMethod::bind(PyObject* object, const char* name) {
  method_ = Ref::take(PyObject_GetAttrString(object, name));
  if (!method_) return false;
  function_ = nullptr;
  if (!PyCFunction_CheckExact(method_.get())) return true;
  takes_ = PyCFunction_GetFlags(method_.get());
  if (takes_ != METH_NOARGS && takes_ != METH_O) return true;
  function_ = PyCFunction_GetFunction(method_.get());
  self_ = PyCFunction_GetSelf(method_.get());
  return true;
}

Ref BuiltinMethod::operator()(PyObject* argument) const {
  const int given = argument ? METH_O : METH_NOARGS;
  if (function_ && takes_ == given) return Ref::take(function_(self_, argument));
  return Ref::take(PyObject_CallFunctionObjArgs(method_.get(), argument, nullptr));
}

void LoopCore::attach(worker::Worker& worker) {
  worker_ = &worker;
  wakeup_.emplace(worker.loop(), [this] { worker_->wake(); });
}

bool LoopCore::adopt(PyObject* loop) {
  loop_ = Ref::borrow(loop);
  ready_ = Ref::take(PyObject_GetAttr(loop, constants().ready));
  Ref heapq = Ref::take(PyImport_ImportModule("heapq"));
  Ref contexts = Ref::take(PyImport_ImportModule("contextvars"));
  if (!ready_ || !heapq || !contexts) return false;
  pop_timer_ = Ref::take(PyObject_GetAttrString(heapq.get(), "heappop"));
  return pop_timer_ && append_.bind(ready_.get(), "append") &&
         pop_left_.bind(ready_.get(), "popleft") &&
         copy_context_.bind(contexts.get(), "copy_context");
}

// One turn and its batch. False with an exception set.
bool LoopCore::turn(std::optional<milliseconds> timeout) {
  end_if_forked();
  if (dispatcher_.has_work() || has_ready()) timeout = milliseconds(0);
  sleeping_ = !timeout || timeout->count() > 0;
  Py_BEGIN_ALLOW_THREADS;
  worker_->run(timeout);
  Py_END_ALLOW_THREADS;
  sleeping_ = false;
  return dispatcher_.dispatch() && PyErr_CheckSignals() == 0;
}

// Turns again and again while nothing came that asyncio's loop has to look at.
LoopCore::Waited LoopCore::wait(std::optional<milliseconds> timeout) {
  const Py_ssize_t scheduled = dispatcher_.scheduled_timers();
  const auto until = steady_clock::now() + timeout.value_or(milliseconds(0));
  for (;;) {
    if (!turn(timeout)) return Waited::failed;
    if (worker_->take_watched_ready()) return Waited::descriptors;
    if (!dispatcher_.may_wait_on(scheduled)) return Waited::nothing;
    if (!timeout) continue;
    timeout = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    if (timeout->count() <= 0) return Waited::nothing;
  }
}

void LoopCore::wake() {
  if (!std::exchange(sleeping_, false)) return;
  wakeup_->send();
}

Ref LoopCore::context_of(PyObject* const* args, Py_ssize_t count, PyObject* names) {
  const Py_ssize_t named = names ? PyTuple_Size(names) : 0;
  if (named == 0) return copy_context_();
  PyObject* name = PyTuple_GetItem(names, 0);
  if (named > 1 || PyUnicode_Compare(name, constants().context) != 0) {
    PyErr_Format(PyExc_TypeError, "call_soon() takes no keyword argument but context, not %R",
                 names);
    return {};
  }
  return args[count] == Py_None ? copy_context_() : Ref::borrow(args[count]);
}

PyObject* LoopCore::call_soon(PyObject* const* args, Py_ssize_t count, PyObject* names) {
  if (closed_) {
    PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    return nullptr;
  }
  if (count < 1) {
    PyErr_SetString(PyExc_TypeError, "call_soon() needs a callback");
    return nullptr;
  }
  Ref context = context_of(args, count, names);
  if (!context) return nullptr;
  if (count == 1 && dispatcher_.take_step(args[0], context)) return none();
  Ref arguments =
      count == 1 ? Ref::borrow(constants().empty_tuple) : Ref::take(PyTuple_New(count - 1));
  if (!arguments) return nullptr;
  for (Py_ssize_t i = 1; i < count; ++i) {
    PyTuple_SetItem(arguments.get(), i - 1, Ref::borrow(args[i]).release());
  }
  Ref handle = new_handle(loop_.get(), args[0], std::move(arguments), std::move(context));
  if (!handle || !append_(handle.get())) return nullptr;
  return handle.release();
}

PyObject* LoopCore::call_soon_threadsafe(PyObject* const* args, Py_ssize_t count, PyObject* names) {
  PyObject* handle = call_soon(args, count, names);
  if (handle) wake();
  return handle;
}

// asyncio.BaseEventLoop._run_once()
PyObject* LoopCore::run_once() {
  std::optional<milliseconds> timeout;
  if (!next_timeout(timeout)) return nullptr;
  switch (wait(timeout)) {
    case Waited::failed:
      return nullptr;
    case Waited::descriptors:
      if (!Ref::take(
              PyObject_CallMethodObjArgs(loop_.get(), constants().poll_descriptors, nullptr)))
        return nullptr;
      break;
    case Waited::nothing:
      break;
  }
  return take_due_timers() && run_ready() ? none() : nullptr;
}

bool LoopCore::drop_cancelled_timers(const Ref& timers) {
  const Constants& c = constants();
  if (PyList_Size(timers.get()) <= kFewTimers) {
    Ref cancelled = Ref::take(PyObject_GetAttr(PyList_GetItem(timers.get(), 0), c.cancelled));
    if (!cancelled) return false;
    if (cancelled.get() != Py_True) return true;
  }
  return static_cast<bool>(
      Ref::take(PyObject_CallMethodObjArgs(loop_.get(), c.drop_cancelled_timers, nullptr)));
}

bool LoopCore::next_timeout(std::optional<milliseconds>& timeout) {
  Ref timers = timers_of(loop_.get());
  if (!timers) return false;
  if (PyList_Size(timers.get()) > 0) {
    if (!drop_cancelled_timers(timers)) return false;
    timers = timers_of(loop_.get());
    if (!timers) return false;
  }
  Ref stopping = Ref::take(PyObject_GetAttr(loop_.get(), constants().stopping));
  if (!stopping) return false;
  if (has_ready() || stopping.get() != Py_False) {
    timeout = milliseconds(0);
  } else if (PyList_Size(timers.get()) > 0) {
    double when;
    if (!when_of(PyList_GetItem(timers.get(), 0), when)) return false;
    const double seconds = std::fmin(std::fmax(when - now_seconds(), 0.0), kLongestWait);
    timeout = milliseconds(static_cast<std::int64_t>(std::ceil(seconds * 1000)));
  }
  return true;
}

bool LoopCore::take_due_timers() {
  Ref timers = timers_of(loop_.get());
  if (!timers) return false;
  if (PyList_Size(timers.get()) == 0) return true;
  const double end = now_seconds() + 1e-9;  // the clock's resolution
  while (PyList_Size(timers.get()) > 0) {
    double when;
    if (!when_of(PyList_GetItem(timers.get(), 0), when)) return false;
    if (when >= end) break;
    Ref timer = Ref::take(PyObject_CallFunctionObjArgs(pop_timer_.get(), timers.get(), nullptr));
    if (!timer || PyObject_SetAttr(timer.get(), constants().scheduled, Py_False) != 0) return false;
    if (!append_(timer.get())) return false;
  }
  return true;
}

// What these callbacks schedule runs in the next turn. A callback that runs the loop itself takes
// from the same queue.
bool LoopCore::run_ready() {
  for (Py_ssize_t left = PyObject_Size(ready_.get()); left > 0 && has_ready(); --left) {
    Ref handle = pop_left_();
    const bool ran = handle && run_handle(handle.get());
    end_if_forked();
    if (!ran) return false;
  }
  return true;
}

}  // namespace mgr::python
