#pragma once

#include "worker/python/py.h"

namespace mgr::python {

bool load_context_run();  // before the first use; false with an exception set

// context.run(arguments[0], *arguments[1 .. count)), without the interpreter's detours where
// `context` is a contextvars.Context. Null with an exception set.
Ref run_in_context(PyObject* context, PyObject* const* arguments, Py_ssize_t count);

}  // namespace mgr::python
