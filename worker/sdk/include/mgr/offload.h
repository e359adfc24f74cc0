#pragma once

#include <coroutine>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include <mgr/detail/call.h>
#include <mgr/detail/outcome.h>

namespace mgr::app {
namespace detail {

// GCC before 13 destroys a temporary that is initialized member by member (a closure, an aggregate)
// twice, where it stands within a co_await expression.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
template <typename T>
inline constexpr bool kSafeCallable =
    std::is_lvalue_reference_v<T> || std::is_trivially_destructible_v<std::remove_reference_t<T>>;
template <typename T>
inline constexpr bool kSafeArgument =
    kSafeCallable<T> || !std::is_aggregate_v<std::remove_reference_t<T>>;
#else
template <typename T>
inline constexpr bool kSafeCallable = true;
template <typename T>
inline constexpr bool kSafeArgument = true;
#endif

// A call on its way through the pool, and what came of it. It has a home of its own, as the
// coroutine that waits for it may end before it: then it is abandoned, and freed when it is done.
template <typename Function, typename... Arguments>
class Job : public mgr_job {
 public:
  using Value = std::invoke_result_t<Function&, Arguments...>;

  template <typename From, typename... FromArguments>
  Job(Call& call, From&& function, FromArguments&&... arguments)
      : mgr_job{&run_it, &done_it, nullptr, nullptr},
        function_(std::forward<From>(function)),
        arguments_(std::forward<FromArguments>(arguments)...),
        call_(&call) {}

  static void* operator new(std::size_t size) { return Frames::allocate(size); }
  static void operator delete(void* memory, std::size_t size) { Frames::release(memory, size); }

  void submit(std::coroutine_handle<> waiting) {
    waiting_ = waiting;
    under_way_ = true;
    call_->instance().host.submit(call_->instance().worker, this);
  }
  // Nobody waits any more.
  static void leave(Job* job) {
    const Instance& instance = job->call_->instance();
    if (job->under_way_ && !instance.host.withdraw(instance.worker, job)) {
      job->call_ = nullptr;
      return;
    }
    delete job;
  }
  Value take() { return outcome_.take(); }

 private:
  static void run_it(mgr_job* job) noexcept {
    auto& self = *static_cast<Job*>(job);
    try {
      if constexpr (std::is_void_v<Value>) {
        std::apply(self.function_, std::move(self.arguments_));
      } else {
        self.outcome_.set_value(std::apply(self.function_, std::move(self.arguments_)));
      }
    } catch (...) {
      self.outcome_.set_exception(std::current_exception());
    }
  }
  static void done_it(mgr_job* job) noexcept {
    auto* self = static_cast<Job*>(job);
    self->under_way_ = false;
    if (!self->call_) {
      delete self;
      return;
    }
    Call::resume(self->call_, self->waiting_);
  }

  Function function_;
  std::tuple<Arguments...> arguments_;
  Outcome<Value> outcome_;
  Call* call_;  // null: abandoned
  std::coroutine_handle<> waiting_;
  bool under_way_ = false;
};

template <typename Job>
class OffloadAwaiter {
 public:
  explicit OffloadAwaiter(Job* job) : job_(job) {}
  OffloadAwaiter(const OffloadAwaiter&) = delete;
  ~OffloadAwaiter() { Job::leave(job_); }

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> coroutine) { job_->submit(coroutine); }
  typename Job::Value await_resume() { return job_->take(); }

 private:
  Job* job_;
};

}  // namespace detail

// Calls `function(arguments...)` on a thread of the worker's pool (at most eight threads, made when
// they are needed first), while the loop goes on; gives what it returns, or throws what it throws.
// For what computes long or blocks. Function and arguments are copied or moved there. It must not
// touch what belongs to the loop: Scope, Receive, Send, Tasks.
//
//   const auto factors = co_await offload(factorize, n);
//   const User user = co_await offload([](const std::string& name) { … }, std::move(name));
//
// When the awaiting coroutine is destroyed before the call has ended, nobody gets the result: what
// the function uses must be its own (by value, or shared).
//
// With GCC 12 a lambda whose captures have destructors needs a name (`const auto find = [name] {…};
// co_await offload(find);`), or takes them as arguments: see detail::kSafeCallable.
template <typename Function, typename... Arguments>
auto offload(Function&& function, Arguments&&... arguments) {
  static_assert(
      detail::kSafeCallable<Function>,
      "offload(): this compiler destroys captures of a lambda within co_await twice: name "
      "the lambda, or give its captures as arguments: offload(function, arguments...)");
  static_assert(
      (detail::kSafeArgument<Arguments> && ...),
      "offload(): this compiler destroys an aggregate within co_await twice: name it, and "
      "give it without std::move");
  using Job = detail::Job<std::decay_t<Function>, std::decay_t<Arguments>...>;
  static_assert(alignof(Job) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__,
                "offload(): over-aligned function or argument: give a pointer to it");
  auto& call = detail::Call::running("offload");
  return detail::OffloadAwaiter<Job>(
      new Job(call, std::forward<Function>(function), std::forward<Arguments>(arguments)...));
}

}  // namespace mgr::app
