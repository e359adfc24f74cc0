#include "worker/python/constants.h"

#include "common/base/check.h"

namespace mgr::python {
namespace {

Constants the_constants{};  // objects of the interpreter, of which there is one in a process
bool loaded = false;

PyObject* attribute_of(const char* module, const char* name) {
  Ref imported = Ref::take(PyImport_ImportModule(module));
  return imported ? PyObject_GetAttrString(imported.get(), name) : nullptr;
}

bool load_strings(Constants& c) {
  const std::pair<PyObject**, const char*> strings[] = {
      {&c.type, "type"},
      {&c.http, "http"},
      {&c.http_request, "http.request"},
      {&c.http_disconnect, "http.disconnect"},
      {&c.http_response_start, "http.response.start"},
      {&c.http_response_body, "http.response.body"},
      {&c.http_response_trailers, "http.response.trailers"},
      {&c.http_response_early_hint, "http.response.early_hint"},
      {&c.http_response_pathsend, "http.response.pathsend"},
      {&c.http_response_zerocopysend, "http.response.zerocopysend"},
      {&c.body, "body"},
      {&c.more_body, "more_body"},
      {&c.status, "status"},
      {&c.headers, "headers"},
      {&c.trailers, "trailers"},
      {&c.more_trailers, "more_trailers"},
      {&c.links, "links"},
      {&c.file, "file"},
      {&c.offset, "offset"},
      {&c.count, "count"},
      {&c.asgi, "asgi"},
      {&c.method, "method"},
      {&c.path, "path"},
      {&c.raw_path, "raw_path"},
      {&c.query_string, "query_string"},
      {&c.root_path, "root_path"},
      {&c.scheme, "scheme"},
      {&c.http_version, "http_version"},
      {&c.client, "client"},
      {&c.server, "server"},
      {&c.state, "state"},
      {&c.extensions, "extensions"},
      {&c.https, "https"},
      {&c.version_10, "1.0"},
      {&c.version_11, "1.1"},
      {&c.create_future, "create_future"},
      {&c.create_task, "create_task"},
      {&c.done, "done"},
      {&c.run, "run"},
      {&c.set_result, "set_result"},
      {&c.cancel, "cancel"},
      {&c.throw_, "throw"},
      {&c.close, "close"},
      {&c.await, "__await__"},
      {&c.future_blocking, "_asyncio_future_blocking"},
      {&c.ready, "_ready"},
      {&c.scheduled, "_scheduled"},
      {&c.stopping, "_stopping"},
      {&c.cancelled, "_cancelled"},
      {&c.run_handle, "_run"},
      {&c.when, "_when"},
      {&c.context, "context"},
      {&c.callback_failed, "_callback_failed"},
      {&c.drop_cancelled_timers, "_drop_cancelled_timers"},
      {&c.poll_descriptors, "_poll_descriptors"},
  };
  for (const auto& [target, text] : strings) {
    *target = PyUnicode_InternFromString(text);
    if (!*target) return false;
  }
  return true;
}

}  // namespace

bool load_constants() {
  if (loaded) return true;
  Constants& c = the_constants;
  if (!load_strings(c)) return false;
  c.empty_bytes = PyBytes_FromStringAndSize("", 0);
  c.empty_tuple = PyTuple_New(0);
  c.task_type = attribute_of("asyncio", "Task");
  c.cancelled_error = attribute_of("asyncio", "CancelledError");
  c.coroutine_type = attribute_of("types", "CoroutineType");
  loaded = c.empty_bytes && c.empty_tuple && c.task_type && c.cancelled_error && c.coroutine_type;
  return loaded;
}

const Constants& constants() {
  CHECK(loaded);
  return the_constants;
}

}  // namespace mgr::python
