#include "worker/python/context_run.h"

#include "worker/python/constants.h"

namespace mgr::python {
namespace {

using FastFunction = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);

// Context.run() as this CPython has it in C; null where it is something else.
FastFunction context_run = nullptr;
PyTypeObject* context_type = nullptr;

}  // namespace

bool load_context_run() {
  Ref module = Ref::take(PyImport_ImportModule("contextvars"));
  Ref context =
      module ? Ref::take(PyObject_CallMethod(module.get(), "copy_context", nullptr)) : Ref();
  Ref run = context ? Ref::take(PyObject_GetAttr(context.get(), constants().run)) : Ref();
  if (!run) return false;
  context_type = Py_TYPE(context.get());
  if (PyCFunction_CheckExact(run.get()) &&
      PyCFunction_GetFlags(run.get()) == (METH_FASTCALL | METH_KEYWORDS)) {
    context_run =
        reinterpret_cast<FastFunction>(reinterpret_cast<void*>(PyCFunction_GetFunction(run.get())));
  }
  return true;
}

Ref run_in_context(PyObject* context, PyObject* const* arguments, Py_ssize_t count) {
  if (context_run && Py_TYPE(context) == context_type) {
    return Ref::take(context_run(context, arguments, count, nullptr));
  }
  Ref method = Ref::take(PyObject_GetAttr(context, constants().run));
  Ref all = method ? Ref::take(PyTuple_New(count)) : Ref();
  if (!all) return {};
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyTuple_SetItem(all.get(), i, Ref::borrow(arguments[i]).release());
  }
  return Ref::take(PyObject_Call(method.get(), all.get(), nullptr));
}

}  // namespace mgr::python
