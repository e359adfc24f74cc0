#pragma once

#include <coroutine>
#include <utility>

#include <mgr/detail/frames.h>
#include <mgr/detail/outcome.h>

namespace mgr::app {

template <typename T = void>
class Task;

namespace detail {

template <typename T>
class TaskPromise;

class TaskPromiseBase {
 public:
  std::suspend_always initial_suspend() const noexcept { return {}; }

  struct Final {
    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
      const std::coroutine_handle<> next = ended.promise().continuation;
      return next ? next : std::noop_coroutine();
    }
    void await_resume() const noexcept {}
  };
  Final final_suspend() const noexcept { return {}; }

  static void* operator new(std::size_t size) { return Frames::allocate(size); }
  static void operator delete(void* memory, std::size_t size) { Frames::release(memory, size); }

  std::coroutine_handle<> continuation;  // who awaits it; null while it has not been suspended
};

template <typename T>
class TaskPromise : public TaskPromiseBase {
 public:
  Task<T> get_return_object() noexcept;
  template <typename Value>
  void return_value(Value&& value) {
    outcome.set_value(std::forward<Value>(value));
  }
  void unhandled_exception() noexcept { outcome.set_exception(std::current_exception()); }

  Outcome<T> outcome;
};

template <>
class TaskPromise<void> : public TaskPromiseBase {
 public:
  Task<void> get_return_object() noexcept;
  void return_void() const noexcept {}
  void unhandled_exception() noexcept { outcome.set_exception(std::current_exception()); }

  Outcome<void> outcome;
};

}  // namespace detail

// A coroutine that begins when it is awaited, gives one T (or nothing) or throws, and belongs to
// whoever holds the Task: destroying the Task destroys it where it stands, and what it awaits with
// it, so that their destructors run. Await it at most once. One thread only, the worker's loop.
//
//   Task<User> find_user(std::string name);
//   const User user = co_await find_user("ada");
//
// Arguments are copied into the coroutine as they are declared: a reference or a view must outlive
// it, which it does where the call is awaited at once.
template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::TaskPromise<T>;

  Task(Task&& other) noexcept : coroutine_(std::exchange(other.coroutine_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(coroutine_, other.coroutine_);
    return *this;
  }
  ~Task() {
    if (coroutine_) coroutine_.destroy();
  }

  class Awaiter {
   public:
    explicit Awaiter(std::coroutine_handle<promise_type> coroutine) : coroutine_(coroutine) {}
    bool await_ready() const noexcept { return coroutine_.done(); }
    // Begins it here rather than by symmetric transfer: one that ends without a suspension leaves
    // nothing on the stack, however often that happens and whatever the compiler optimizes.
    bool await_suspend(std::coroutine_handle<> awaiting) const noexcept {
      coroutine_.resume();
      if (coroutine_.done()) return false;
      coroutine_.promise().continuation = awaiting;
      return true;
    }
    T await_resume() const { return coroutine_.promise().outcome.take(); }

   private:
    std::coroutine_handle<promise_type> coroutine_;
  };
  Awaiter operator co_await() const noexcept { return Awaiter(coroutine_); }

  // One that is nothing yet; only to be assigned to.
  static Task none() noexcept { return Task(nullptr); }
  // For whoever runs it without awaiting: begins it; whether it has ended; what it came to.
  void start() const { coroutine_.resume(); }
  bool done() const noexcept { return coroutine_.done(); }
  T take() const { return coroutine_.promise().outcome.take(); }

 private:
  friend promise_type;
  explicit Task(std::coroutine_handle<promise_type> coroutine) : coroutine_(coroutine) {}

  std::coroutine_handle<promise_type> coroutine_;
};

template <typename T>
Task<T> detail::TaskPromise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<TaskPromise<T>>::from_promise(*this));
}

inline Task<void> detail::TaskPromise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<TaskPromise<void>>::from_promise(*this));
}

}  // namespace mgr::app
