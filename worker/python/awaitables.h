#pragma once

#include "worker/python/py.h"

namespace mgr::python {

// The callables `receive` and `send` of one request, and the awaitables that they return. Nothing
// happens before the awaitable is awaited; it completes without suspending where it can, else it
// waits on a future of the loop. A receive() that is cancelled has taken no message.
bool make_awaitable_types();
// New callables for the RequestObject `request`; null with an exception set.
Ref new_receive(PyObject* request);
Ref new_send(PyObject* request);

}  // namespace mgr::python
