#include "worker/python/handle.h"

#include <array>
#include <cstddef>
#include <vector>

#include "worker/python/constants.h"
#include "worker/python/context_run.h"

namespace mgr::python {
namespace {

struct Handle {
  PyObject ob_base;
  PyObject* loop;
  PyObject* callback;
  PyObject* arguments;
  PyObject* context;
  PyObject* source_traceback;
  PyObject* repr;
  PyObject* weak_references;
  char cancelled;
};

PyTypeObject* handle_type = nullptr;

Handle& as_handle(PyObject* self) {
  return *reinterpret_cast<Handle*>(self);
}

PyMemberDef handle_members[] = {
    {"_loop", T_OBJECT, offsetof(Handle, loop), 0, nullptr},
    {"_callback", T_OBJECT, offsetof(Handle, callback), 0, nullptr},
    {"_args", T_OBJECT, offsetof(Handle, arguments), 0, nullptr},
    {"_context", T_OBJECT, offsetof(Handle, context), 0, nullptr},
    {"_source_traceback", T_OBJECT, offsetof(Handle, source_traceback), 0, nullptr},
    {"_repr", T_OBJECT, offsetof(Handle, repr), 0, nullptr},
    {"_cancelled", T_BOOL, offsetof(Handle, cancelled), 0, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Handle, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

int handle_traverse(PyObject* self, visitproc visit, void* arg) {
  Handle& handle = as_handle(self);
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(handle.loop);
  Py_VISIT(handle.callback);
  Py_VISIT(handle.arguments);
  Py_VISIT(handle.context);
  Py_VISIT(handle.source_traceback);
  return 0;
}

int handle_clear(PyObject* self) {
  Handle& handle = as_handle(self);
  Py_CLEAR(handle.loop);
  Py_CLEAR(handle.callback);
  Py_CLEAR(handle.arguments);
  Py_CLEAR(handle.context);
  Py_CLEAR(handle.source_traceback);
  Py_CLEAR(handle.repr);
  return 0;
}

void handle_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  if (as_handle(self).weak_references) PyObject_ClearWeakRefs(self);
  handle_clear(self);
  PyObject_GC_Del(self);
  Py_DECREF(type);
}

template <typename Function>
void* slot(Function function) {
  return reinterpret_cast<void*>(function);
}

PyType_Slot handle_slots[] = {
    {Py_tp_dealloc, slot(handle_dealloc)},
    {Py_tp_traverse, slot(handle_traverse)},
    {Py_tp_clear, slot(handle_clear)},
    {Py_tp_members, handle_members},
    {0, nullptr},
};

PyType_Spec handle_spec = {
    "_mgr_core.Handle", sizeof(Handle), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, handle_slots};

// The methods of asyncio.Handle work on our attributes, and so do what this CPython does.
bool take_methods_of_asyncio(PyObject* type) {
  Ref module = Ref::take(PyImport_ImportModule("asyncio"));
  Ref model = module ? Ref::take(PyObject_GetAttrString(module.get(), "Handle")) : Ref();
  if (!model) return false;
  for (const char* name :
       {"__repr__", "_repr_info", "get_context", "cancel", "cancelled", "_run"}) {
    Ref method = Ref::take(PyObject_GetAttrString(model.get(), name));
    if (!method) {
      if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return false;
      PyErr_Clear();  // get_context() is new in 3.12
    } else if (PyObject_SetAttrString(type, name, method.get()) != 0) {
      return false;
    }
  }
  return true;
}

// context.run(callback, *arguments)
Ref run_in(PyObject* context, PyObject* callback, PyObject* arguments) {
  const Py_ssize_t count = PyTuple_Size(arguments);
  std::array<PyObject*, 8> few;
  std::vector<PyObject*> many;
  PyObject** all = few.data();
  if (static_cast<std::size_t>(count) >= few.size()) {
    many.resize(static_cast<std::size_t>(count) + 1);
    all = many.data();
  }
  all[0] = callback;
  for (Py_ssize_t i = 0; i < count; ++i) all[i + 1] = PyTuple_GetItem(arguments, i);
  return run_in_context(context, all, count + 1);
}

bool report(PyObject* handle) {
  if (PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
    return false;
  }
  Ref exception = take_exception();
  return static_cast<bool>(Ref::take(PyObject_CallMethodObjArgs(
      as_handle(handle).loop, constants().callback_failed, handle, exception.get(), nullptr)));
}

bool run_foreign(PyObject* handle) {
  const Constants& c = constants();
  Ref cancelled = Ref::take(PyObject_GetAttr(handle, c.cancelled));
  if (!cancelled) return false;
  if (cancelled.get() == Py_True) return true;
  return static_cast<bool>(Ref::take(PyObject_CallMethodObjArgs(handle, c.run_handle, nullptr)));
}

}  // namespace

Ref new_handle(PyObject* loop, PyObject* callback, Ref arguments, Ref context) {
  PyObject* object = PyType_GenericAlloc(handle_type, 0);  // zeroed
  if (!object) return {};
  Handle& handle = as_handle(object);
  handle.loop = Ref::borrow(loop).release();
  handle.callback = Ref::borrow(callback).release();
  handle.arguments = arguments.release();
  handle.context = context.release();
  return Ref::take(object);
}

bool run_handle(PyObject* object) {
  if (Py_TYPE(object) != handle_type) return run_foreign(object);
  Handle& handle = as_handle(object);
  if (handle.cancelled) return true;
  const bool whole = handle.callback && handle.context && handle.arguments &&
                     PyTuple_CheckExact(handle.arguments) != 0;
  if (!whole) return run_foreign(object);  // somebody has changed its attributes
  // cancel() from inside of the callback drops the handle's own.
  Ref callback = Ref::borrow(handle.callback);
  Ref arguments = Ref::borrow(handle.arguments);
  Ref context = Ref::borrow(handle.context);
  return run_in(context.get(), callback.get(), arguments.get()) || report(object);
}

bool make_handle_type(PyObject* module) {
  PyObject* type = PyType_FromSpec(&handle_spec);
  if (!type || !take_methods_of_asyncio(type)) return false;
  handle_type = reinterpret_cast<PyTypeObject*>(type);
  Py_INCREF(type);
  return PyModule_AddObject(module, "Handle", type) == 0;
}

}  // namespace mgr::python
