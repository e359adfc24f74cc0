#pragma once

#include "worker/python/py.h"

namespace mgr::python {

// ClientDisconnected, the OSError that send() raises once the client is gone (ASGI 2.4). Borrowed.
PyObject* client_disconnected();

bool make_mold_type(PyObject* module);
bool make_worker_type(PyObject* module);

}  // namespace mgr::python
