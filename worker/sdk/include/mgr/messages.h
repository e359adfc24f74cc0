#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string_view>

#include <mgr/abi.h>
#include <mgr/scope.h>

namespace mgr::app {

// The client is gone, or the worker has to leave: what send() throws. An application may let it
// pass; only the debug log tells of it.
class Disconnected : public std::runtime_error {
 public:
  Disconnected() : std::runtime_error("the client has disconnected") {}
};

// What receive() gives.
struct Message {
  enum class Type { request, disconnect, startup, shutdown };
  Type type = Type::request;
  std::string_view body;  // of a request; valid until the next receive()
  bool more_body = false;
};

// Header fields of a response, as views that must stay valid until send() or respond() has been
// awaited. At most 16, or those of a span.
//
//   {{"content-type", "text/plain"}, {"cache-control", "no-store"}}
//   Headers().add("location", url).add("x-request-id", id)
//
// Trivially destructible on purpose, like all messages: within co_await expressions GCC 12 destroys
// some temporaries twice. There it also rejects std::initializer_list.
class Headers {
 public:
  static constexpr std::size_t kMost = 16;

  Headers() = default;
  // Those without a name are left out.
  Headers(Header a) { put(a); }
  Headers(Header a, Header b) : Headers(a) { put(b); }
  Headers(Header a, Header b, Header c) : Headers(a, b) { put(c); }
  Headers(Header a, Header b, Header c, Header d) : Headers(a, b, c) { put(d); }
  Headers(Header a, Header b, Header c, Header d, Header e, Header f = {}, Header g = {},
          Header h = {})
      : Headers(a, b, c, d) {
    for (const Header* field : {&e, &f, &g, &h}) put(*field);
  }
  // As many as there are.
  static Headers of(std::span<const Header> fields) {
    Headers headers;
    headers.many_ = fields;
    return headers;
  }

  // Throws std::length_error for the seventeenth.
  Headers& add(std::string_view name, std::string_view value) {
    if (count_ == kMost) throw std::length_error("more than 16 headers: use Headers::of()");
    few_[count_++] = {{name.data(), name.size()}, {value.data(), value.size()}};
    return *this;
  }

  std::span<const mgr_field> few() const { return {few_.data(), count_}; }
  std::span<const Header> many() const { return many_; }

 private:
  void put(const Header& field) {
    if (!field.name.empty()) add(field.name, field.value);
  }

  std::size_t count_ = 0;
  std::span<const Header> many_;
  std::array<mgr_field, kMost> few_;  // the first count_ of them
};

// What send() takes in answer to a request. The status is 100..999, names and values are what HTTP
// allows (else send() throws std::invalid_argument). Content-Length is kept and checked; without it
// a body that is sent at once gets one, and others are chunked.
struct ResponseStart {
  int status = 200;
  Headers headers = {};
};
struct ResponseBody {
  std::string_view body = {};
  bool more_body = false;
};

// … and in a lifespan.
struct StartupComplete {};
struct StartupFailed {
  std::string_view message = {};
};
struct ShutdownComplete {};
struct ShutdownFailed {
  std::string_view message = {};
};

}  // namespace mgr::app
