#include "worker/python/scope.h"

#include "common/server/percent.h"
#include "worker/python/constants.h"
#include "worker/python/header_names.h"

namespace mgr::python {
namespace {

// (host, port), or (path, None).
Ref tuple_of(const server::Endpoint& endpoint) {
  if (endpoint.is_unix) return Ref::take(Py_BuildValue("(sO)", endpoint.host.c_str(), Py_None));
  return Ref::take(Py_BuildValue("(si)", endpoint.host.c_str(), endpoint.port));
}

bool set(PyObject* dict, PyObject* key, Ref value) {
  return value && PyDict_SetItem(dict, key, value.get()) == 0;
}

}  // namespace

HeaderNames::HeaderNames() {
  for (const std::string_view name : kCommonHeaderNames) {
    std::size_t at = hash_of_name(name) % kBuckets;
    while (entries_[at].bytes) at = (at + 1) % kBuckets;
    entries_[at] = {name, bytes(name).release()};
  }
}

PyObject* HeaderNames::get(std::string_view name) const {
  for (std::size_t at = hash_of_name(name) % kBuckets; entries_[at].bytes;
       at = (at + 1) % kBuckets) {
    if (entries_[at].name != name) continue;
    Py_INCREF(entries_[at].bytes);
    return entries_[at].bytes;
  }
  return bytes(name).release();
}

Ref ScopeBuilder::with_server(const server::Endpoint& server) {
  Ref copy = Ref::take(PyDict_Copy(template_.get()));
  if (!copy || !set(copy.get(), constants().server, tuple_of(server))) return {};
  return copy;
}

Ref ScopeBuilder::client_of(const server::Endpoint* client) {
  return Ref::borrow(client ? clients_.get(*client, tuple_of) : Py_None);
}

ScopeBuilder::ScopeBuilder(PyObject* state, std::string root_path)
    : state_(Ref::borrow(state)), root_path_(std::move(root_path)) {
  const char* const methods[] = {"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"};
  for (std::size_t i = 0; i < methods_.size(); ++i) {
    methods_[i] = {methods[i], PyUnicode_InternFromString(methods[i])};
  }
  const Constants& c = constants();
  asgi_ = Ref::take(Py_BuildValue("{ssss}", "version", "3.0", "spec_version", "2.5"));
  extensions_ = Ref::take(Py_BuildValue("{O{}O{}O{}O{}}", c.http_response_early_hint,
                                        c.http_response_trailers, c.http_response_pathsend,
                                        c.http_response_zerocopysend));
  Ref root = string(root_path_);
  if (!asgi_ || !extensions_ || !root) return;
  template_ = Ref::take(Py_BuildValue(
      "{OOOOOOOOOOOOOOOOOOOOOOOOOOOO}", c.type, c.http, c.asgi, Py_None, c.http_version,
      c.version_11, c.server, Py_None, c.client, Py_None, c.scheme, c.http, c.method,
      methods_[0].second, c.root_path, root.get(), c.path, Py_None, c.raw_path, Py_None,
      c.query_string, c.empty_bytes, c.headers, Py_None, c.state, Py_None, c.extensions, Py_None));
}

Ref ScopeBuilder::method_of(std::string_view method) {
  for (const auto& [name, object] : methods_) {
    if (name == method) return Ref::borrow(object);
  }
  return string(method);
}

Ref ScopeBuilder::path_of(std::string_view raw_path) {
  if (raw_path == "*") return string(raw_path);  // of the server (RFC 9110 7.1): below no root
  const bool plain = raw_path.find('%') == std::string_view::npos;
  if (root_path_.empty() && plain) return string(raw_path);
  decoded_ = root_path_;
  server::append_percent_decoded(decoded_, raw_path);
  return string(decoded_);
}

Ref ScopeBuilder::headers_of(const std::vector<server::HeaderField>& fields) {
  Ref list = Ref::take(PyList_New(static_cast<Py_ssize_t>(fields.size())));
  if (!list) return list;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    Ref pair = Ref::take(PyTuple_New(2));
    if (!pair) return pair;
    PyObject* name = names_.get(fields[i].name);
    PyObject* value = bytes(fields[i].value).release();
    PyTuple_SetItem(pair.get(), 0, name);
    PyTuple_SetItem(pair.get(), 1, value);
    if (!name || !value) return {};
    PyList_SetItem(list.get(), static_cast<Py_ssize_t>(i), pair.release());
  }
  return list;
}

Ref ScopeBuilder::build(const server::Request& request) {
  const Constants& c = constants();
  PyObject* base =
      request.server
          ? templates_.get(*request.server,
                           [this](const server::Endpoint& server) { return with_server(server); })
          : template_.get();
  Ref scope = base ? Ref::take(PyDict_Copy(base)) : Ref();
  if (!scope) return scope;
  PyObject* dict = scope.get();
  bool ok = set(dict, c.asgi, Ref::take(PyDict_Copy(asgi_.get()))) &&
            set(dict, c.path, path_of(request.raw_path)) &&
            set(dict, c.raw_path, bytes(request.raw_path)) &&
            set(dict, c.headers, headers_of(request.headers)) &&
            set(dict, c.client, client_of(request.client)) &&
            set(dict, c.state, Ref::take(PyDict_Copy(state_.get()))) &&
            set(dict, c.extensions, Ref::take(PyDict_Copy(extensions_.get())));
  if (ok && request.method != methods_[0].first) {
    ok = set(dict, c.method, method_of(request.method));
  }
  if (ok && !request.query.empty()) ok = set(dict, c.query_string, bytes(request.query));
  if (ok && request.scheme == "https") ok = PyDict_SetItem(dict, c.scheme, c.https) == 0;
  if (ok && request.version == server::HttpVersion::http10) {
    ok = PyDict_SetItem(dict, c.http_version, c.version_10) == 0;
  }
  return ok ? std::move(scope) : Ref();
}

}  // namespace mgr::python
