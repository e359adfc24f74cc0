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

// What was made of the endpoints last seen.
class ByEndpoint {
 public:
  // Borrowed, made by `make(endpoint)` if need be; null with an exception set.
  template <typename Make>
  PyObject* get(const server::Endpoint& endpoint, Make make) {
    Entry& entry = entries_[static_cast<unsigned>(endpoint.port) % entries_.size()];
    const int port = endpoint.is_unix ? kUnix : endpoint.port;
    if (entry.made && entry.port == port && entry.host == endpoint.host) return entry.made.get();
    Ref made = make(endpoint);
    if (!made) return nullptr;
    entry = Entry{endpoint.host, port, std::move(made)};
    return entry.made.get();
  }

 private:
  static constexpr int kUnix = -2;
  struct Entry {
    std::string host;
    int port = -1;
    Ref made;
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
  Ref with_server(const server::Endpoint& server);
  Ref client_of(const server::Endpoint* client);
  Ref path_of(std::string_view raw_path);
  Ref method_of(std::string_view method);
  Ref headers_of(const std::vector<server::HeaderField>& fields);

  Ref state_;
  std::string root_path_;
  Ref asgi_;
  Ref extensions_;
  Ref template_;  // of a GET by HTTP/1.1 without a query, to no server
  HeaderNames names_;
  ByEndpoint templates_;  // the same, to the server that a request came to
  ByEndpoint clients_;
  std::array<std::pair<std::string_view, PyObject*>, 7> methods_;
  std::string decoded_;
};

}  // namespace mgr::python
