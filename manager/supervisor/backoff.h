#pragma once

#include <chrono>

#include "common/settings/settings.h"

namespace mgr::manager {

// The pauses of one slot's crash loop. The first early death costs no pause; from the second on the
// pause is `first`, doubled each time up to `longest`. A worker that lived for `kSettled` ends the
// loop. Pure: time is handed in.
class Backoff {
 public:
  // A worker that has been ready for so long before it died has not died "early".
  static constexpr std::chrono::milliseconds kSettled{10'000};

  // A worker died after `lived` (since it was ready; 0 if it never was). Returns the pause before
  // the next is started. `outside`: killed by somebody else, not by a fault of its own: no pause,
  // the count stays.
  enum class Cause { own, outside };
  std::chrono::milliseconds died(std::chrono::milliseconds lived, Cause cause,
                                 const CrashBackoff& limits);
  // Called when a worker of the slot has been ready for kSettled, or the code was replaced.
  void reset() { early_deaths_ = 0; }
  int early_deaths() const { return early_deaths_; }

 private:
  int early_deaths_ = 0;
};

}  // namespace mgr::manager
