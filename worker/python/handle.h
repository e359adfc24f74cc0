#pragma once

#include "worker/python/py.h"

namespace mgr::python {

// What call_soon() returns: asyncio.Handle with the same attributes and methods, but made and run
// without Python code. A Python object of its own type, as that of other loops is.

bool make_handle_type(PyObject* module);  // false with an exception set

// `arguments`: a tuple; `context`: a contextvars.Context. Null with an exception set.
Ref new_handle(PyObject* loop, PyObject* callback, Ref arguments, Ref context);

// Runs a handle of any type, unless it was cancelled. An exception of its callback goes to the
// loop's exception handler. False with an exception set: SystemExit, KeyboardInterrupt, and what
// the exception handler let through.
bool run_handle(PyObject* handle);

}  // namespace mgr::python
