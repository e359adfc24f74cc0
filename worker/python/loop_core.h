#pragma once

#include <chrono>
#include <optional>

#include "common/loop/event_loop.h"
#include "worker/life/worker.h"
#include "worker/python/dispatcher.h"
#include "worker/python/py.h"

namespace mgr::python {

// A builtin method bound to its object, such as deque.append, called without the interpreter's
// detours where its kind allows.
class BuiltinMethod {
 public:
  // False with an exception set.
  bool bind(PyObject* object, const char* name);
  // `argument`: null for a method without one.
  Ref operator()(PyObject* argument = nullptr) const;

 private:
  Ref method_;
  PyCFunction function_ = nullptr;  // of METH_NOARGS or METH_O; null: another kind
  PyObject* self_ = nullptr;        // borrowed from method_
  int takes_ = 0;
};

// The part of asyncio's loop that every request passes: waiting, call_soon() and the run of what is
// ready. Works on the private attributes of CPython's BaseEventLoop (_ready, _scheduled,
// _stopping), so CPython's own methods may run in between, and MgrLoop decides which of the two do.
//
// Everything but wake()'s caller is on the loop's thread; all with the GIL, which is what guards
// the `sleeping` flag: it is set in the same hold of the GIL in which the queue was found empty, so
// whoever queues a callback afterwards sees it.
class LoopCore {
 public:
  explicit LoopCore(Dispatcher& dispatcher) : dispatcher_(dispatcher) {}

  // Before the loop turns; `worker` outlives this.
  void attach(worker::Worker& worker);
  // Before any other call but wait(): `loop` is a BaseEventLoop. False with an exception set.
  bool adopt(PyObject* loop);
  // From now on call_soon() raises RuntimeError.
  void close() { closed_ = true; }

  enum class Waited { failed, nothing, descriptors };  // failed: with an exception set
  // Turns the worker's loop until there is something for asyncio, or `timeout` has passed (nullopt:
  // without limit); starts and wakes requests. `descriptors`: the watched one is readable.
  Waited wait(std::optional<std::chrono::milliseconds> timeout);
  // Ends a wait(); from any thread.
  void wake();

  // As BaseEventLoop's; null with an exception set.
  PyObject* call_soon(PyObject* const* args, Py_ssize_t count, PyObject* names);
  PyObject* call_soon_threadsafe(PyObject* const* args, Py_ssize_t count, PyObject* names);
  PyObject* run_once();

 private:
  bool turn(std::optional<std::chrono::milliseconds> timeout);
  bool has_ready() const { return ready_ && PyObject_Size(ready_.get()) > 0; }
  Ref context_of(PyObject* const* args, Py_ssize_t count, PyObject* names);
  bool drop_cancelled_timers(const Ref& timers);
  bool next_timeout(std::optional<std::chrono::milliseconds>& timeout);
  bool take_due_timers();
  bool run_ready();

  Dispatcher& dispatcher_;
  worker::Worker* worker_ = nullptr;
  std::optional<Wakeup> wakeup_;
  Ref loop_;
  Ref ready_;
  Ref pop_timer_;  // heapq.heappop
  BuiltinMethod append_;
  BuiltinMethod pop_left_;
  BuiltinMethod copy_context_;
  bool sleeping_ = false;
  bool closed_ = false;
};

}  // namespace mgr::python
