// _mgr_core.Worker: the worker as Python sees it (worker/life/worker.h and the dispatcher).

#include "worker/python/worker_type.h"

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string_view>

#include "common/ipc/stacks.h"
#include "worker/life/signals.h"
#include "worker/life/worker.h"
#include "worker/python/constants.h"
#include "worker/python/dispatcher.h"
#include "worker/python/forked.h"
#include "worker/python/loop_core.h"
#include "worker/python/module.h"
#include "worker/python/stacks.h"
#include "worker/python/task_set.h"
#include "worker/python/wsgi_file.h"
#include "worker/python/wsgi_host.h"

namespace mgr::python {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// asyncio's own limit of one wait.
constexpr double kLongestWait = 24 * 3600;

// The server and the worker's life know one host, and which one it is to be is known only when the
// application is loaded.
class HostSwitch final : public server::Application, public worker::Host {
 public:
  template <typename To>
  void lead_to(To& host) {
    application_ = &host;
    host_ = &host;
  }
  void on_request(server::Exchange& exchange) noexcept override {
    application_->on_request(exchange);
  }
  void on_leave(worker::Leave how) noexcept override { host_->on_leave(how); }

 private:
  server::Application* application_ = nullptr;
  worker::Host* host_ = nullptr;
};

struct Parts {
  worker::Mold& mold;
  worker::Identity identity;
  int slot;
  Log log;
  Dispatcher dispatcher;
  LoopCore loop_core{dispatcher};
  Pump pump{dispatcher};
  WsgiHost wsgi_host{log};
  HostSwitch host;
  std::optional<worker::Worker> worker;
  std::optional<worker::SignalDispositions> dispositions;

  Parts(worker::Mold& from, worker::Identity who)
      : mold(from),
        identity(std::move(who)),
        slot(identity.slot),
        log(worker::log_for(from.settings(), "worker " + std::to_string(slot))),
        dispatcher(log) {
    host.lead_to(dispatcher);
  }
};

struct WorkerObject {
  PyObject ob_base;
  Parts* parts;  // for the life of the process: interpreter finalization must not undo the loop
  PyObject* mold;
};

PyTypeObject* worker_type = nullptr;

Parts& parts_of(PyObject* self) {
  return *reinterpret_cast<WorkerObject*>(self)->parts;
}

worker::Worker* opened(PyObject* self) {
  Parts& parts = parts_of(self);
  if (parts.worker) return &*parts.worker;
  PyErr_SetString(PyExc_RuntimeError, "the worker is not open");
  return nullptr;
}

PyObject* worker_open(PyObject* self, PyObject* on_leave) {
  Parts& parts = parts_of(self);
  if (parts.worker) {
    PyErr_SetString(PyExc_RuntimeError, "the worker is open");
    return nullptr;
  }
  ipc::WorkerRecord& record = parts.mold.scoreboard().record(parts.identity.record);
  parts.worker.emplace(std::move(parts.identity), parts.mold.settings(), parts.host, parts.host,
                       record, parts.log);
  parts.dispatcher.attach(*parts.worker, Ref::borrow(on_leave));
  parts.loop_core.attach(*parts.worker);
  parts.dispositions.emplace();
  return none();
}

PyObject* worker_host(PyObject* self, PyObject* args) {
  PyObject* application;
  PyObject* loop;
  PyObject* log_exception;
  PyObject* state;
  int double_callable;
  int eager;
  PyObject* step_type;
  if (!PyArg_ParseTuple(args, "OOOO!ppO", &application, &loop, &log_exception, &PyDict_Type, &state,
                        &double_callable, &eager, &step_type)) {
    return nullptr;
  }
  Parts& parts = parts_of(self);
  Dispatcher::Callables callables;
  callables.application = Ref::borrow(application);
  callables.loop = Ref::borrow(loop);
  callables.log_exception = Ref::borrow(log_exception);
  callables.state = Ref::borrow(state);
  callables.root_path = parts.mold.settings().root_path;
  if (double_callable) callables.style = Dispatcher::Style::double_callable;
  if (eager) {
    callables.start = Dispatcher::Start::eager;
  } else if (step_type != Py_None) {
    callables.start = Dispatcher::Start::stepped;
    callables.step_type = Ref::borrow(step_type);
  }
  return parts.dispatcher.open(std::move(callables)) ? none() : nullptr;
}

PyObject* worker_host_wsgi(PyObject* self, PyObject* args) {
  worker::Worker* worker = opened(self);
  PyObject* application;
  PyObject* log_exception;
  PyObject* sendable;
  PyObject* wsgi_errors;
  int threads;
  int signals_fd;
  if (!worker || !PyArg_ParseTuple(args, "OOOOii", &application, &log_exception, &sendable,
                                   &wsgi_errors, &threads, &signals_fd)) {
    return nullptr;
  }
  Parts& parts = parts_of(self);
  parts.host.lead_to(parts.wsgi_host);
  WsgiHost::Callables callables{Ref::borrow(application), Ref::borrow(log_exception),
                                Ref::borrow(sendable)};
  const EnvironBuilder::Fixed fixed{wsgi_errors, file_wrapper_type(), threads > 1,
                                    parts.mold.settings().root_path};
  const bool opened = parts.wsgi_host.open(*worker, std::move(callables), fixed,
                                           static_cast<std::size_t>(threads), signals_fd);
  return opened ? none() : nullptr;
}

PyObject* worker_serve_wsgi(PyObject* self, PyObject*) {
  return opened(self) ? parts_of(self).wsgi_host.serve() : nullptr;
}

PyObject* worker_run_requests(PyObject* self, PyObject* number) {
  const long value = PyLong_AsLong(number);
  if (value == -1 && PyErr_Occurred()) return nullptr;
  return parts_of(self).wsgi_host.run_requests(static_cast<std::size_t>(value));
}

PyObject* worker_stop_requests(PyObject* self, PyObject*) {
  parts_of(self).wsgi_host.stop();
  return none();
}

bool to_timeout(PyObject* object, std::optional<milliseconds>& timeout) {
  if (object == Py_None) return true;
  const double seconds = PyFloat_AsDouble(object);
  if (seconds == -1.0 && PyErr_Occurred()) return false;
  const double bounded = std::fmin(std::fmax(seconds, 0.0), kLongestWait);
  timeout = milliseconds(static_cast<std::int64_t>(std::ceil(bounded * 1000)));
  return true;
}

PyObject* worker_select(PyObject* self, PyObject* seconds) {
  std::optional<milliseconds> timeout;
  if (!opened(self) || !to_timeout(seconds, timeout)) return nullptr;
  switch (parts_of(self).loop_core.wait(timeout)) {
    case LoopCore::Waited::failed:
      return nullptr;
    case LoopCore::Waited::nothing:
      return PyBool_FromLong(0);
    case LoopCore::Waited::descriptors:
      return PyBool_FromLong(1);
  }
  return nullptr;
}

PyObject* worker_adopt(PyObject* self, PyObject* loop) {
  return opened(self) && parts_of(self).loop_core.adopt(loop) ? none() : nullptr;
}

PyObject* worker_adopt_tasks(PyObject*, PyObject* weak_set) {
  return speed_up_task_set(weak_set) ? none() : nullptr;
}

PyObject* worker_part(PyObject* self, PyObject*) {
  parts_of(self).loop_core.close();
  return none();
}

PyObject* worker_call_soon(PyObject* self, PyObject* const* args, Py_ssize_t count,
                           PyObject* names) {
  return parts_of(self).loop_core.call_soon(args, count, names);
}

PyObject* worker_call_soon_threadsafe(PyObject* self, PyObject* const* args, Py_ssize_t count,
                                      PyObject* names) {
  return parts_of(self).loop_core.call_soon_threadsafe(args, count, names);
}

PyObject* worker_run_once(PyObject* self, PyObject*) {
  return parts_of(self).loop_core.run_once();
}

PyObject* worker_wake(PyObject* self, PyObject*) {
  parts_of(self).loop_core.wake();
  return none();
}

PyObject* worker_nest(PyObject* self, PyObject* ask) {
  worker::Worker* worker = opened(self);
  if (!worker) return nullptr;
  Parts& parts = parts_of(self);
  parts.pump.attach(*worker, Ref::borrow(ask));
  parts.dispatcher.use_pump(parts.pump);
  return PyLong_FromLong(worker->loop().backend_fd());
}

PyObject* worker_pump(PyObject* self, PyObject*) {
  Parts& parts = parts_of(self);
  if (!parts.pump.attached()) {
    PyErr_SetString(PyExc_RuntimeError, "the worker's loop is not nested");
    return nullptr;
  }
  std::optional<milliseconds> next;
  if (!parts.pump.turn(next)) return nullptr;
  return next ? PyFloat_FromDouble(static_cast<double>(next->count()) / 1000) : none();
}

PyObject* worker_rest(PyObject* self, PyObject*) {
  end_if_forked();
  worker::Worker* worker = opened(self);
  if (!worker) return nullptr;
  worker->begin_wait();
  return none();
}

PyObject* worker_beat(PyObject* self, PyObject*) {
  end_if_forked();
  worker::Worker* worker = opened(self);
  if (!worker) return nullptr;
  worker->beat();
  return none();
}

PyObject* worker_work(PyObject* self, PyObject*) {
  worker::Worker* worker = opened(self);
  if (!worker) return nullptr;
  worker->end_wait();
  return none();
}

PyObject* worker_no_debug(PyObject*, PyObject*) {
  return PyBool_FromLong(0);
}

PyObject* worker_watch(PyObject* self, PyObject* fd) {
  worker::Worker* worker = opened(self);
  const long number = PyLong_AsLong(fd);
  if (!worker || (number == -1 && PyErr_Occurred())) return nullptr;
  worker->watch(static_cast<int>(number));
  return none();
}

PyObject* worker_use_create_task(PyObject* self, PyObject* use) {
  parts_of(self).dispatcher.use_create_task(use == Py_True);
  return none();
}

PyObject* worker_use_loop_for_steps(PyObject* self, PyObject* use) {
  parts_of(self).dispatcher.use_loop_for_steps(PyObject_IsTrue(use) == 1);
  return none();
}

PyObject* worker_last_words(PyObject* self, PyObject* fd) {
  worker::Worker* worker = opened(self);
  const long number = PyLong_AsLong(fd);
  if (!worker || (number == -1 && PyErr_Occurred())) return nullptr;
  worker->report_last_words(static_cast<int>(number));
  parts_of(self).dispatcher.touched();
  return none();
}

PyObject* worker_ready(PyObject* self, PyObject* interface) {
  worker::Worker* worker = opened(self);
  if (!worker) return nullptr;
  const std::string name = utf8(interface);
  if (PyErr_Occurred()) return nullptr;
  worker->booted(name);
  parts_of(self).dispatcher.touched();
  return none();
}

PyObject* worker_boot_failed(PyObject* self, PyObject* args) {
  auto failure = parse_failure(args);
  worker::Worker* worker = opened(self);
  if (!failure || !worker) return nullptr;
  worker->boot_failed(ipc::BootFailed{failure->stage, failure->error, failure->exit_status},
                      failure->traceback);
  parts_of(self).dispatcher.touched();
  return none();
}

PyObject* worker_restore_signals(PyObject* self, PyObject*) {
  if (parts_of(self).dispositions) parts_of(self).dispositions->restore();
  return none();
}

PyObject* worker_time_to_leave(PyObject* self, PyObject*) {
  worker::Worker* worker = opened(self);
  if (!worker) return nullptr;
  return PyFloat_FromDouble(static_cast<double>(worker->time_to_leave().count()) / 1000);
}

PyObject* worker_answer_stacks(PyObject* self, PyObject*) {
  worker::Worker* worker = opened(self);
  return worker && answer_stacks(worker->stacks()) ? none() : nullptr;
}

PyObject* worker_tell_stacks(PyObject* self, PyObject* text) {
  worker::Worker* worker = opened(self);
  if (!worker) return nullptr;
  const std::string more = utf8(text);
  if (PyErr_Occurred()) return nullptr;
  worker->stacks().tell_more(more);
  return none();
}

PyObject* worker_end_stacks(PyObject* self, PyObject*) {
  if (auto& worker = parts_of(self).worker) worker->stacks().end();
  return none();
}

PyObject* worker_stack_pipe(PyObject* self, void*) {
  worker::Worker* worker = opened(self);
  return worker ? PyLong_FromLong(worker->stacks().pipe()) : nullptr;
}

PyObject* worker_stack_signal(PyObject*, void*) {
  return PyLong_FromLong(ipc::stack_signal());
}

PyObject* worker_log(PyObject* self, PyObject* args) {
  return write_log(parts_of(self).log, args);
}

PyObject* worker_slot(PyObject* self, void*) {
  return PyLong_FromLong(parts_of(self).slot);
}

template <typename Function>
PyCFunction fast(Function function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(function));
}

PyMethodDef worker_methods[] = {
    {"open", worker_open, METH_O,
     "open(on_leave): makes loop, server and channel. on_leave('shut_down' | 'cut' | 'now')"},
    {"host", worker_host, METH_VARARGS,
     "host(application, loop, log_exception, state, double_callable, eager, step_type or None)"},
    {"host_wsgi", worker_host_wsgi, METH_VARARGS,
     "host_wsgi(application, log_exception, sendable, errors, threads, signals_fd): instead of "
     "host() and all that belongs to asyncio"},
    {"serve_wsgi", worker_serve_wsgi, METH_NOARGS,
     "serve_wsgi(): serves until the worker is to leave: 'shut_down', 'cut' or 'now'"},
    {"run_requests", worker_run_requests, METH_O,
     "run_requests(number): what a thread of the pool does until stop_requests()"},
    {"stop_requests", worker_stop_requests, METH_NOARGS, "stop_requests()"},
    {"select", worker_select, METH_O,
     "select(seconds or None): turns the worker's loop, starts and wakes tasks; True: the watched "
     "descriptor is readable"},
    {"adopt", worker_adopt, METH_O,
     "adopt(loop): the BaseEventLoop that the next four work on; before them"},
    {"adopt_tasks", worker_adopt_tasks, METH_O,
     "adopt_tasks(WeakSet): makes that in which asyncio registers its tasks faster"},
    {"part", worker_part, METH_NOARGS, "part(): the adopted loop is closed"},
    {"call_soon", fast(worker_call_soon), METH_FASTCALL | METH_KEYWORDS,
     "BaseEventLoop.call_soon()"},
    {"call_soon_threadsafe", fast(worker_call_soon_threadsafe), METH_FASTCALL | METH_KEYWORDS,
     "BaseEventLoop.call_soon_threadsafe()"},
    {"run_once", worker_run_once, METH_NOARGS, "BaseEventLoop._run_once()"},
    {"wake", worker_wake, METH_NOARGS, "wake(): ends a select() or run_once(); from any thread"},
    {"nest", worker_nest, METH_O,
     "nest(ask): the descriptor on which another loop waits in place of this one. It calls pump() "
     "when "
     "that is readable, and soon after ask()"},
    {"pump", worker_pump, METH_NOARGS,
     "pump(): turns the worker's loop; in how many seconds another turn is due, or None"},
    {"rest", worker_rest, METH_NOARGS, "rest(): the other loop waits now"},
    {"work", worker_work, METH_NOARGS, "work(): it does so no more"},
    {"beat", worker_beat, METH_NOARGS,
     "beat(): the other loop turns, but can't tell when it waits; every second once begun"},
    {"no_debug", worker_no_debug, METH_NOARGS,
     "no_debug(): False; get_debug() of a loop that is not in debug mode"},
    {"watch", worker_watch, METH_O, "watch(fd); -1: no more"},
    {"use_create_task", worker_use_create_task, METH_O,
     "use_create_task(bool): start requests through loop.create_task()"},
    {"use_loop_for_steps", worker_use_loop_for_steps, METH_O,
     "use_loop_for_steps(bool): asyncio's debug mode wants to see every callback"},
    {"last_words", worker_last_words, METH_O,
     "last_words(memfd): what a fatal signal writes there is for the supervisor"},
    {"ready", worker_ready, METH_O, "ready(interface): tells the supervisor"},
    {"boot_failed", worker_boot_failed, METH_VARARGS,
     "boot_failed(stage, error, traceback, exit_status): tells the supervisor"},
    {"restore_signals", worker_restore_signals, METH_NOARGS,
     "Undo what loading did to the signals on which a worker's life depends."},
    {"time_to_leave", worker_time_to_leave, METH_NOARGS, "Seconds left to leave in."},
    {"answer_stacks", worker_answer_stacks, METH_NOARGS,
     "answer_stacks(): stack_signal is the supervisor's; the handler that it has, which is "
     "faulthandler's, writes the threads, and Python's own is called soon after that"},
    {"tell_stacks", worker_tell_stacks, METH_O,
     "tell_stacks(text): what Python's handler adds to the answer"},
    {"end_stacks", worker_end_stacks, METH_NOARGS, "end_stacks(): faulthandler ends"},
    {"log", worker_log, METH_VARARGS, "log(level, text)"},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef worker_attributes[] = {
    {"slot", worker_slot, nullptr, nullptr, nullptr},
    {"stack_pipe", worker_stack_pipe, nullptr, "A descriptor; -1: nobody asks.", nullptr},
    {"stack_signal", worker_stack_signal, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot worker_slots[] = {
    {Py_tp_methods, worker_methods},
    {Py_tp_getset, worker_attributes},
    {0, nullptr},
};

PyType_Spec worker_spec = {"_mgr_core.Worker", sizeof(WorkerObject), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, worker_slots};

}  // namespace

PyObject* new_worker(PyObject* mold_object, worker::Mold& mold, worker::Identity identity) {
  auto* object = PyObject_New(WorkerObject, worker_type);
  if (!object) return nullptr;
  Py_INCREF(mold_object);
  object->mold = mold_object;
  object->parts = new Parts(mold, std::move(identity));
  return reinterpret_cast<PyObject*>(object);
}

PyObject* write_log(const Log& log, PyObject* args) {
  const char* level;
  PyObject* text;
  if (!PyArg_ParseTuple(args, "sO", &level, &text)) return nullptr;
  const std::string message = utf8(text);
  if (PyErr_Occurred()) return nullptr;
  const std::string_view name = level;
  const LogLevel as = name == "debug"     ? LogLevel::debug
                      : name == "info"    ? LogLevel::info
                      : name == "warning" ? LogLevel::warning
                                          : LogLevel::error;
  log.write(as, message);
  return none();
}

std::optional<FailureArguments> parse_failure(PyObject* args) {
  const char* stage;
  PyObject* error;
  PyObject* traceback;
  int exit_status;
  if (!PyArg_ParseTuple(args, "sOOi", &stage, &error, &traceback, &exit_status))
    return std::nullopt;
  FailureArguments failure{stage, utf8(error), utf8(traceback), exit_status};
  if (PyErr_Occurred()) return std::nullopt;
  return failure;
}

bool make_worker_type(PyObject* module) {
  worker_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&worker_spec));
  if (!worker_type) return false;
  Py_INCREF(reinterpret_cast<PyObject*>(worker_type));
  return PyModule_AddObject(module, "Worker", reinterpret_cast<PyObject*>(worker_type)) == 0;
}

}  // namespace mgr::python
