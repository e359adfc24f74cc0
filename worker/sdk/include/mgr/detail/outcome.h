#pragma once

#include <exception>
#include <type_traits>
#include <utility>
#include <variant>

namespace mgr::app::detail {

// What a computation came to: nothing yet, a value, or an exception.
template <typename T>
class Outcome {
 public:
  template <typename Value>
  void set_value(Value&& value) {
    if constexpr (std::is_reference_v<T>) {
      state_.template emplace<1>(&value);
    } else {
      state_.template emplace<1>(std::forward<Value>(value));
    }
  }
  void set_exception(std::exception_ptr exception) noexcept {
    state_.template emplace<2>(std::move(exception));
  }
  // The value, moved out; or throws the exception.
  T take() {
    if (state_.index() == 2) std::rethrow_exception(std::get<2>(std::move(state_)));
    if constexpr (std::is_reference_v<T>) {
      return static_cast<T>(*std::get<1>(state_));
    } else {
      return std::get<1>(std::move(state_));
    }
  }

 private:
  using Stored = std::conditional_t<std::is_reference_v<T>, std::remove_reference_t<T>*, T>;
  std::variant<std::monostate, Stored, std::exception_ptr> state_;
};

template <>
class Outcome<void> {
 public:
  void set_exception(std::exception_ptr exception) noexcept { exception_ = std::move(exception); }
  void take() {
    if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
  }

 private:
  std::exception_ptr exception_;
};

}  // namespace mgr::app::detail
