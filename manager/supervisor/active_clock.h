#pragma once

#include <chrono>

namespace mgr::manager {

// Monotonic time that does not count while the process itself was stopped (SIGSTOP, a suspended
// machine): a supervisor that wakes must not take its own sleep for somebody else's silence.
//
// It knows of a stop because it was not woken when it asked to be: `expect()` says when the loop's
// timer will fire, and a now() far beyond that is forgiven: all the time since the last now(),
// since the stop may have begun right after it (the others may have been stopped as long, and what
// they have sent meanwhile is to be read before a deadline counts). Without an expectation there is
// no deadline either, so nothing can be missed. Pure: raw time is handed in.
class ActiveClock {
 public:
  using Time = std::chrono::milliseconds;
  // Lateness of the loop's timer beyond this is taken for a stop.
  static constexpr Time kTolerance{1000};

  // `stopped`: the time that another clock, whose place this one takes, did not count.
  explicit ActiveClock(Time stopped = Time(0)) : stopped_(stopped) {}
  Time stopped() const { return stopped_; }

  Time now(Time raw) {
    if (expected_ != Time::max() && raw > expected_ + kTolerance) {
      stopped_ += raw - seen_;
      expected_ = raw;
    }
    seen_ = raw;
    return raw - stopped_;
  }
  // The next wake-up, in raw time; max(): none.
  void expect(Time raw) { expected_ = raw; }
  // Raw time for a time of this clock.
  Time to_raw(Time time) const { return time == Time::max() ? time : time + stopped_; }

 private:
  Time stopped_{0};
  Time expected_ = Time::max();
  Time seen_{0};  // the last now(), raw
};

}  // namespace mgr::manager
