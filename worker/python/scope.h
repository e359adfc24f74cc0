#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "common/server/exchange.h"
#include "worker/python/py.h"

namespace mgr::python {

// Bytes objects of the names that headers usually have, so that none is made for each request.
class HeaderNames {
 public:
  HeaderNames();
  // A new reference; null with an exception set.
  PyObject* get(std::string_view name) const;

 private:
  static constexpr std::size_t kBuckets = 256;
  struct Entry {
    std::string_view name;
    PyObject* bytes = nullptr;  // for the life of the process
  };
  std::array<Entry, kBuckets> entries_{};
};

// The tuples (host, port) of the peers last seen.
class EndpointTuples {
 public:
  // A new reference: (host, port), (path, None) or None; null with an exception set.
  PyObject* get(const server::Endpoint* endpoint);

 private:
  struct Entry {
    std::string host;
    int port = -1;
    Ref tuple;
  };
  std::array<Entry, 256> entries_;
};

// Makes the ASGI scope of a request (spec "HTTP Connection Scope"): a copy of a template with what
// differs set.
class ScopeBuilder {
 public:
  // `state`: the lifespan's state, of which each scope gets a shallow copy.
  ScopeBuilder(PyObject* state, std::string root_path);
  bool ready() const { return static_cast<bool>(template_); }

  // A new dict; null with an exception set.
  Ref build(const server::Request& request);

 private:
  Ref path_of(std::string_view raw_path);
  Ref method_of(std::string_view method);
  Ref headers_of(const std::vector<server::HeaderField>& fields);

  Ref state_;
  std::string root_path_;
  Ref asgi_;
  Ref template_;
  HeaderNames names_;
  EndpointTuples endpoints_;
  std::array<std::pair<std::string_view, PyObject*>, 7> methods_;
  std::string decoded_;
};

}  // namespace mgr::python
