#include "worker/python/wsgi_environ.h"

#include <charconv>

#include "common/server/percent.h"
#include "worker/python/header_names.h"

namespace mgr::python {
namespace {

// Keys that requests set, interned once.
struct KeyObjects {
  PyObject* request_method = PyUnicode_InternFromString("REQUEST_METHOD");
  PyObject* path_info = PyUnicode_InternFromString("PATH_INFO");
  PyObject* query_string = PyUnicode_InternFromString("QUERY_STRING");
  PyObject* raw_uri = PyUnicode_InternFromString("RAW_URI");
  PyObject* remote_addr = PyUnicode_InternFromString("REMOTE_ADDR");
  PyObject* remote_port = PyUnicode_InternFromString("REMOTE_PORT");
  PyObject* server_name = PyUnicode_InternFromString("SERVER_NAME");
  PyObject* server_port = PyUnicode_InternFromString("SERVER_PORT");
  PyObject* server_protocol = PyUnicode_InternFromString("SERVER_PROTOCOL");
  PyObject* url_scheme = PyUnicode_InternFromString("wsgi.url_scheme");
  PyObject* input = PyUnicode_InternFromString("wsgi.input");
  PyObject* https = PyUnicode_InternFromString("https");
  PyObject* http_10 = PyUnicode_InternFromString("HTTP/1.0");
};

const KeyObjects& keys() {
  static const KeyObjects objects;
  return objects;
}

Ref latin1(std::string_view text) {
  return Ref::take(
      PyUnicode_DecodeLatin1(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr));
}

Ref number(int value) {
  std::array<char, 12> digits;
  char* end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return latin1({digits.data(), static_cast<std::size_t>(end - digits.data())});
}

bool set(PyObject* dict, PyObject* key, Ref value) {
  return value && PyDict_SetItem(dict, key, value.get()) == 0;
}

bool set(PyObject* dict, const char* key, Ref value) {
  return value && PyDict_SetItemString(dict, key, value.get()) == 0;
}

std::string cgi_name(std::string_view name) {
  if (name == "content-type") return "CONTENT_TYPE";
  if (name == "content-length") return "CONTENT_LENGTH";
  std::string key = "HTTP_";
  for (const char c : name) {
    key += c == '-' ? '_' : (c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
  }
  return key;
}

// RFC 9110 5.3; for Cookie, whose lines are no list, RFC 9113 8.2.3.
Ref joined(PyObject* before, std::string_view name, const Ref& value) {
  Ref separator = latin1(name == "cookie" ? "; " : ",");
  Ref left = separator ? Ref::take(PyUnicode_Concat(before, separator.get())) : Ref();
  return left ? Ref::take(PyUnicode_Concat(left.get(), value.get())) : Ref();
}

std::string_view field(const server::Request& request, std::string_view name) {
  for (const auto& each : request.headers) {
    if (each.name == name) return each.value;
  }
  return {};
}

}  // namespace

bool EnvironBuilder::open(const Fixed& fixed) {
  const char* const methods[] = {"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"};
  for (std::size_t i = 0; i < methods_.size(); ++i) {
    methods_[i] = {methods[i], PyUnicode_InternFromString(methods[i])};
  }
  for (const std::string_view name : kCommonHeaderNames) {
    std::size_t at = hash_of_name(name) % kBuckets;
    while (keys_[at].key) at = (at + 1) % kBuckets;
    keys_[at] = {name, PyUnicode_InternFromString(cgi_name(name).c_str())};
  }
  template_ = Ref::take(PyDict_New());
  if (!template_) return false;
  PyObject* dict = template_.get();
  const auto truth = [](bool value) { return Ref::borrow(value ? Py_True : Py_False); };
  const KeyObjects& k = keys();
  return set(dict, k.request_method, latin1("")) &&
         set(dict, "SCRIPT_NAME", latin1(fixed.script_name)) &&
         set(dict, k.path_info, latin1("")) && set(dict, k.query_string, latin1("")) &&
         set(dict, k.raw_uri, latin1("")) && set(dict, k.remote_addr, latin1("")) &&
         set(dict, k.server_name, latin1("")) && set(dict, k.server_port, latin1("")) &&
         set(dict, k.server_protocol, latin1("HTTP/1.1")) &&
         set(dict, "SERVER_SOFTWARE", latin1("mgr")) &&
         set(dict, "wsgi.version", Ref::take(Py_BuildValue("(ii)", 1, 0))) &&
         set(dict, k.url_scheme, latin1("http")) && set(dict, k.input, truth(false)) &&
         set(dict, "wsgi.errors", Ref::borrow(fixed.errors)) &&
         set(dict, "wsgi.multithread", truth(fixed.multithread)) &&
         // A reload has two processes with the application even where one worker is wanted.
         set(dict, "wsgi.multiprocess", truth(true)) && set(dict, "wsgi.run_once", truth(false)) &&
         set(dict, "wsgi.input_terminated", truth(true)) &&
         set(dict, "wsgi.file_wrapper", Ref::borrow(fixed.file_wrapper));
}

Ref EnvironBuilder::method_of(std::string_view method) const {
  for (const auto& [name, object] : methods_) {
    if (name == method) return Ref::borrow(object);
  }
  return latin1(method);
}

Ref EnvironBuilder::build(const server::Request& request, PyObject* input) {
  const KeyObjects& k = keys();
  Ref environ = Ref::take(PyDict_Copy(template_.get()));
  if (!environ) return environ;
  PyObject* dict = environ.get();
  const bool escaped = request.raw_path.find('%') != std::string_view::npos;
  std::string decoded;
  if (escaped) server::append_percent_decoded(decoded, request.raw_path);
  bool ok = set(dict, k.request_method, method_of(request.method)) &&
            set(dict, k.path_info, latin1(escaped ? decoded : request.raw_path)) &&
            set(dict, k.raw_uri, latin1(request.target)) &&
            PyDict_SetItem(dict, k.input, input) == 0 && set_addresses(dict, request) &&
            set_fields(dict, request);
  // Of the server (RFC 9110 7.1): below no root.
  if (ok && request.raw_path == "*") ok = set(dict, "SCRIPT_NAME", latin1(""));
  if (ok && !request.query.empty()) ok = set(dict, k.query_string, latin1(request.query));
  if (ok && request.scheme == "https") ok = PyDict_SetItem(dict, k.url_scheme, k.https) == 0;
  if (ok && request.version == server::HttpVersion::http10) {
    ok = PyDict_SetItem(dict, k.server_protocol, k.http_10) == 0;
  }
  return ok ? std::move(environ) : Ref();
}

bool EnvironBuilder::set_fields(PyObject* environ, const server::Request& request) {
  for (const server::HeaderField& each : request.headers) {
    PyObject* known = nullptr;
    for (std::size_t at = hash_of_name(each.name) % kBuckets; keys_[at].key && !known;
         at = (at + 1) % kBuckets) {
      if (keys_[at].name == each.name) known = keys_[at].key;
    }
    if (!known && each.name.find('_') != std::string_view::npos) continue;
    Ref key = known ? Ref::borrow(known) : latin1(cgi_name(each.name));
    Ref value = latin1(each.value);
    if (!key || !value) return false;
    PyObject* before = PyDict_GetItemWithError(environ, key.get());
    if (!before && PyErr_Occurred()) return false;
    if (before) value = joined(before, each.name, value);
    if (!set(environ, key.get(), std::move(value))) return false;
  }
  return true;
}

bool EnvironBuilder::set_addresses(PyObject* environ, const server::Request& request) {
  const KeyObjects& k = keys();
  if (const server::Endpoint* client = request.client) {
    if (!set(environ, k.remote_addr, latin1(client->host))) return false;
    // A proxy tells the client's address, and seldom its port.
    if (client->port != 0 && !set(environ, k.remote_port, number(client->port))) return false;
  }
  return set_server(environ, request);
}

// A Unix socket has no name and port that a client could use: those of Host.
bool EnvironBuilder::set_server(PyObject* environ, const server::Request& request) {
  const KeyObjects& k = keys();
  std::string_view host = request.server->host;
  int port = request.server->port;
  if (request.server->is_unix) {
    host = field(request, "host");
    port = request.scheme == "https" ? 443 : 80;
    const std::size_t colon = host.ends_with(']') ? std::string_view::npos : host.rfind(':');
    if (colon != std::string_view::npos) {
      const std::string_view digits = host.substr(colon + 1);
      std::from_chars(digits.data(), digits.data() + digits.size(), port);
      host = host.substr(0, colon);
    }
    if (host.empty()) host = "localhost";
  }
  if (!server_name_ || port != server_port_ || host != server_host_) {
    Ref name = latin1(host);
    Ref text = number(port);
    if (!name || !text) return false;
    server_name_ = std::move(name);
    server_port_text_ = std::move(text);
    server_host_ = host;
    server_port_ = port;
  }
  return PyDict_SetItem(environ, k.server_name, server_name_.get()) == 0 &&
         PyDict_SetItem(environ, k.server_port, server_port_text_.get()) == 0;
}

}  // namespace mgr::python
