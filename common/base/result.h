#pragma once

#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "common/base/check.h"

namespace mgr {

// An expected failure: one line for people, and the errno behind it (0 where there is none).
// Context is put in front as the error rises: `bind 0.0.0.0:80: Permission denied`.
class Error {
 public:
  explicit Error(std::string message, int code = 0) : message_(std::move(message)), code_(code) {}

  // The error of a failed system call on `object`, from `code` (errno by default).
  static Error from_errno(std::string_view object, int code = errno) {
    return Error(std::string(object) + ": " + std::strerror(code), code);
  }

  Error with(std::string_view context) && {
    message_ = std::string(context) + ": " + message_;
    return std::move(*this);
  }

  const std::string& message() const { return message_; }
  int code() const { return code_; }

 private:
  std::string message_;
  int code_;
};

// A T, or the Error that prevented it. value() and error() on the wrong alternative are bugs.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    CHECK(ok());
    return std::get<0>(state_);
  }
  const T& value() const& {
    CHECK(ok());
    return std::get<0>(state_);
  }
  T&& value() && {
    CHECK(ok());
    return std::get<0>(std::move(state_));
  }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }

  Error& error() & {
    CHECK(!ok());
    return std::get<1>(state_);
  }
  const Error& error() const& {
    CHECK(!ok());
    return std::get<1>(state_);
  }
  Error&& error() && {
    CHECK(!ok());
    return std::get<1>(std::move(state_));
  }

 private:
  std::variant<T, Error> state_;
};

// Success without a value, or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }

  Error& error() & {
    CHECK(error_);
    return *error_;
  }
  const Error& error() const& {
    CHECK(error_);
    return *error_;
  }
  Error&& error() && {
    CHECK(error_);
    return std::move(*error_);
  }

 private:
  std::optional<Error> error_;
};

}  // namespace mgr
