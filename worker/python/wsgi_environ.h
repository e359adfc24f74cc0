#pragma once

#include <array>
#include <string>
#include <string_view>

#include "common/server/exchange.h"
#include "worker/python/py.h"

namespace mgr::python {

// Makes the environ of a request (PEP 3333, "environ Variables"): a copy of a template with what
// differs set. Values are native strings of U+0000..U+00FF, the bytes as they came.
//
// A field whose name has an underscore is left out: it would be taken for one with a dash.
class EnvironBuilder {
 public:
  struct Fixed {
    PyObject* errors;        // wsgi.errors
    PyObject* file_wrapper;  // wsgi.file_wrapper
    bool multithread;
    std::string script_name;
  };
  // Before build(). False with an exception set.
  bool open(const Fixed& fixed);
  // A new dict; null with an exception set. From any thread that has the GIL.
  Ref build(const server::Request& request, PyObject* input);

 private:
  struct Names;
  struct Key {
    std::string_view name;
    PyObject* key = nullptr;  // for the life of the process
  };
  static constexpr std::size_t kBuckets = 256;

  bool set_fields(PyObject* environ, const server::Request& request);
  bool set_addresses(PyObject* environ, const server::Request& request);
  bool set_server(PyObject* environ, const server::Request& request);
  Ref method_of(std::string_view method) const;

  Ref template_;
  std::array<Key, kBuckets> keys_{};
  std::array<std::pair<std::string_view, PyObject*>, 7> methods_;
  // The address last seen, and its objects.
  std::string server_host_;
  int server_port_ = -1;
  Ref server_name_;
  Ref server_port_text_;
};

}  // namespace mgr::python
