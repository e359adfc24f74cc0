// _mgr_core.Mold: the mold as Python sees it (worker/life/mold.h).

#include <memory>
#include <optional>

#include "worker/life/mold.h"
#include "worker/life/signals.h"
#include "worker/python/constants.h"
#include "worker/python/context_run.h"
#include "worker/python/module.h"
#include "worker/python/worker_type.h"

namespace mgr::python {
namespace {

struct MoldObject {
  PyObject ob_base;
  worker::Mold* mold;  // for the life of the process
  worker::SignalDispositions* dispositions;
  std::optional<worker::Mold::Request>* request;
};

MoldObject& as_mold(PyObject* self) {
  return *reinterpret_cast<MoldObject*>(self);
}

PyObject* mold_new(PyTypeObject* type, PyObject*, PyObject*) {
  if (!load_constants() || !load_context_run()) return nullptr;
  auto mold = worker::Mold::take();
  if (!mold) {
    PyErr_SetString(PyExc_RuntimeError, mold.error().message().c_str());
    return nullptr;
  }
  auto* object = PyObject_New(MoldObject, type);
  if (!object) return nullptr;
  object->mold = new worker::Mold(std::move(*mold));
  object->dispositions = new worker::SignalDispositions;
  object->request = new std::optional<worker::Mold::Request>;
  return reinterpret_cast<PyObject*>(object);
}

const char* name_of(Interface interface) {
  switch (interface) {
    case Interface::automatic:
      return "auto";
    case Interface::asgi:
      return "asgi";
    case Interface::asgi2:
      return "asgi2";
    case Interface::wsgi:
      return "wsgi";
    case Interface::native:  // never comes here
      return "native";
  }
  return "auto";
}

const char* name_of(LifespanMode mode) {
  switch (mode) {
    case LifespanMode::automatic:
      return "auto";
    case LifespanMode::on:
      return "on";
    case LifespanMode::off:
      return "off";
  }
  return "auto";
}

Ref list_of(const std::vector<std::string>& texts) {
  Ref list = Ref::take(PyList_New(0));
  for (const auto& text : texts) {
    Ref item = Ref::take(
        PyUnicode_DecodeFSDefaultAndSize(text.data(), static_cast<Py_ssize_t>(text.size())));
    if (!list || !item || PyList_Append(list.get(), item.get()) != 0) return {};
  }
  return list;
}

PyObject* mold_settings(PyObject* self, void*) {
  const worker::Mold& mold = *as_mold(self).mold;
  const Settings& settings = mold.settings();
  Ref python_path = list_of(settings.python_path);
  if (!python_path) return nullptr;
  Ref hooks = Ref::take(PyDict_New());
  if (!hooks) return nullptr;
  for (const auto& [event, name] : settings.hooks) {
    Ref text =
        Ref::take(PyUnicode_FromStringAndSize(name.data(), static_cast<Py_ssize_t>(name.size())));
    if (!text || PyDict_SetItemString(hooks.get(), event.c_str(), text.get()) != 0) return nullptr;
  }
  return Py_BuildValue("{sssssssssssOsOsOsisOsi}", "app", settings.app.c_str(), "interface",
                       name_of(settings.interface), "lifespan", name_of(settings.lifespan), "loop",
                       settings.loop.c_str(), "root_path", settings.root_path.c_str(),
                       "python_path", python_path.get(), "load",
                       mold.order().load ? Py_True : Py_False, "check_only",
                       mold.order().check_only ? Py_True : Py_False, "threads", settings.threads,
                       "hooks", hooks.get(), "generation", mold.order().generation);
}

PyObject* mold_loaded(PyObject* self, PyObject* args) {
  const char* interpreter;
  const char* python;
  const char* interface;
  long long duration_ms;
  PyObject* left_open;
  if (!PyArg_ParseTuple(args, "sssLO", &interpreter, &python, &interface, &duration_ms,
                        &left_open)) {
    return nullptr;
  }
  worker::Mold& mold = *as_mold(self).mold;
  ipc::Loaded loaded{interpreter, python, interface, duration_ms, {}};
  const Py_ssize_t count = PySequence_Size(left_open);
  for (Py_ssize_t i = 0; i < count; ++i) {
    Ref phrase = Ref::take(PySequence_GetItem(left_open, i));
    if (!phrase) return nullptr;
    loaded.left_open.push_back(utf8(phrase.get()));
  }
  if (PyErr_Occurred()) return nullptr;
  mold.report(loaded);
  return none();
}

PyObject* mold_load_failed(PyObject* self, PyObject* args) {
  auto failure = parse_failure(args);
  if (!failure) return nullptr;
  as_mold(self).mold->report(ipc::LoadFailed{failure->stage, failure->error, failure->exit_status},
                             failure->traceback);
  return none();
}

PyObject* mold_last_words(PyObject* self, PyObject* fd) {
  const long number = PyLong_AsLong(fd);
  if (number == -1 && PyErr_Occurred()) return nullptr;
  as_mold(self).mold->report_last_words(static_cast<int>(number));
  return none();
}

PyObject* mold_restore_signals(PyObject* self, PyObject*) {
  as_mold(self).dispositions->restore();
  return none();
}

PyObject* mold_receive(PyObject* self, PyObject*) {
  MoldObject& object = as_mold(self);
  Py_BEGIN_ALLOW_THREADS;
  *object.request = object.mold->receive();
  Py_END_ALLOW_THREADS;
  return PyBool_FromLong(object.request->has_value());
}

PyObject* mold_fork(PyObject* self, PyObject*) {
  MoldObject& object = as_mold(self);
  if (!*object.request) {
    PyErr_SetString(PyExc_RuntimeError, "nobody asked for a worker");
    return nullptr;
  }
  worker::Mold::Request request = std::move(**object.request);
  object.request->reset();
  const worker::ForkHooks hooks{PyOS_BeforeFork, PyOS_AfterFork_Parent, PyOS_AfterFork_Child};
  auto identity = object.mold->fork(std::move(request), hooks);
  if (!identity) return none();
  return new_worker(self, *object.mold, std::move(*identity));
}

PyObject* mold_log(PyObject* self, PyObject* args) {
  return write_log(as_mold(self).mold->log(), args);
}

PyMethodDef mold_methods[] = {
    {"loaded", mold_loaded, METH_VARARGS,
     "loaded(interpreter, version, interface, duration_ms, left_open)"},
    {"load_failed", mold_load_failed, METH_VARARGS,
     "load_failed(stage, error, traceback, exit_status)"},
    {"last_words", mold_last_words, METH_O,
     "last_words(memfd): what a fatal signal writes there is for the supervisor"},
    {"restore_signals", mold_restore_signals, METH_NOARGS,
     "Undo what loading did to the signals on which a worker's life depends."},
    {"receive", mold_receive, METH_NOARGS,
     "Wait for the order to fork a worker; False: the supervisor is gone."},
    {"fork", mold_fork, METH_NOARGS, "Obey it: a Worker in the worker, None in the mold."},
    {"log", mold_log, METH_VARARGS, "log(level, text)"},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef mold_attributes[] = {
    {"settings", mold_settings, nullptr, "What the Python side needs of the settings, a dict.",
     nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

template <typename Function>
void* slot(Function function) {
  return reinterpret_cast<void*>(function);
}

PyType_Slot mold_slots[] = {
    {Py_tp_new, slot(mold_new)},
    {Py_tp_methods, mold_methods},
    {Py_tp_getset, mold_attributes},
    {0, nullptr},
};

PyType_Spec mold_spec = {"_mgr_core.Mold", sizeof(MoldObject), 0, Py_TPFLAGS_DEFAULT, mold_slots};

}  // namespace

bool make_mold_type(PyObject* module) {
  Ref type = Ref::take(PyType_FromSpec(&mold_spec));
  return type && PyModule_AddObject(module, "Mold", type.release()) == 0;
}

}  // namespace mgr::python
