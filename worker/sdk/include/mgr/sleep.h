#pragma once

#include <chrono>
#include <coroutine>

#include <mgr/detail/call.h>

namespace mgr::app {
namespace detail {

class SleepAwaiter {
 public:
  explicit SleepAwaiter(std::chrono::nanoseconds duration) : duration_(duration) {}
  SleepAwaiter(const SleepAwaiter&) = delete;
  ~SleepAwaiter() {
    if (!sleeper_.awake) instance().timers.remove(sleeper_);
  }

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> coroutine) {
    sleeper_.call = &Call::running("sleep");
    sleeper_.coroutine = coroutine;
    sleeper_.due = std::chrono::steady_clock::now() + duration_;
    instance().timers.add(sleeper_);
    sleeper_.awake = false;
    instance().arm();
  }
  void await_resume() const noexcept {}

 private:
  Instance& instance() const { return sleeper_.call->instance(); }

  std::chrono::nanoseconds duration_;
  Sleeper sleeper_;
};

}  // namespace detail

// Lets other requests run for at least so long (and at most some milliseconds longer): at least for
// one turn of the loop, which is what sleep(0s) is for. At most a year.
template <typename Rep, typename Period>
auto sleep(std::chrono::duration<Rep, Period> duration) {
  using std::chrono::nanoseconds;
  constexpr std::chrono::hours kYear{24 * 365};
  if (!(duration > duration.zero())) return detail::SleepAwaiter(nanoseconds(0));
  if (duration > kYear) return detail::SleepAwaiter(kYear);
  return detail::SleepAwaiter(std::chrono::ceil<nanoseconds>(duration));
}

}  // namespace mgr::app
