#pragma once

#include "worker/python/py.h"

namespace mgr::python {

class WsgiCall;

// `wsgi.input` of a request: read(), readline(), readlines() and iteration, which never go beyond
// the body and give b"" at its end. Bound to it are the request's start_response() and write().
Ref new_wsgi_input(WsgiCall& call);
WsgiCall& call_of(PyObject* input);
bool make_wsgi_input_type(PyObject* module);

}  // namespace mgr::python
