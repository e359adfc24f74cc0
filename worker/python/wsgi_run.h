#pragma once

#include "worker/python/py.h"

namespace mgr::python {

class WsgiCall;
class WsgiHost;

// Runs a request from environ to close() (PEP 3333), on this thread and with the GIL. No exception
// of the application leaves it, SystemExit and KeyboardInterrupt included: each ends its request
// alone. Where the last of the response was lent to the loop, close_lent() follows later, on the
// same thread, which serves other requests in between.
void run_call(WsgiHost& host, WsgiCall& call);
void close_lent(WsgiHost& host, WsgiCall& call);

}  // namespace mgr::python
