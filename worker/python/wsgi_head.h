#pragma once

#include "worker/python/py.h"
#include "worker/python/wsgi_call.h"

namespace mgr::python {

// Reads the status and the headers that start_response() was called with, as strict as PEP 3333
// ("The start_response() Callable") and HTTP are: what passes is sent as it is. False with an
// exception set, which says what is wrong.
bool read_head(PyObject* status, PyObject* headers, WsgiHead& head);

}  // namespace mgr::python
