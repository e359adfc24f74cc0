#pragma once

#include "worker/python/py.h"

namespace mgr::python {

// Interned strings and objects of asyncio that the request path needs, made once for the process
// and never freed. constants() is null before load_constants().
struct Constants {
  // Keys and values of scopes and messages.
  PyObject* type;
  PyObject* http;
  PyObject* http_request;
  PyObject* http_disconnect;
  PyObject* http_response_start;
  PyObject* http_response_body;
  PyObject* http_response_trailers;
  PyObject* http_response_early_hint;
  PyObject* http_response_pathsend;
  PyObject* http_response_zerocopysend;
  PyObject* body;
  PyObject* more_body;
  PyObject* status;
  PyObject* headers;
  PyObject* trailers;
  PyObject* more_trailers;
  PyObject* links;
  PyObject* file;
  PyObject* offset;
  PyObject* count;
  PyObject* asgi;
  PyObject* method;
  PyObject* path;
  PyObject* raw_path;
  PyObject* query_string;
  PyObject* root_path;
  PyObject* scheme;
  PyObject* http_version;
  PyObject* client;
  PyObject* server;
  PyObject* state;
  PyObject* extensions;
  PyObject* https;
  PyObject* version_10;
  PyObject* version_11;
  PyObject* empty_bytes;
  PyObject* empty_tuple;
  // Names of methods and attributes.
  PyObject* create_future;
  PyObject* create_task;
  PyObject* done;
  PyObject* run;
  PyObject* set_result;
  PyObject* cancel;
  PyObject* throw_;
  PyObject* close;
  PyObject* await;
  PyObject* future_blocking;
  // Attributes of CPython's event loop.
  PyObject* ready;
  PyObject* scheduled;
  PyObject* stopping;
  PyObject* cancelled;
  PyObject* run_handle;
  PyObject* when;
  PyObject* context;
  // Methods of MgrLoop.
  PyObject* callback_failed;
  PyObject* drop_cancelled_timers;
  PyObject* poll_descriptors;
  // asyncio and types.
  PyObject* task_type;
  PyObject* cancelled_error;
  PyObject* coroutine_type;
};

bool load_constants();  // false with an exception set
const Constants& constants();

}  // namespace mgr::python
