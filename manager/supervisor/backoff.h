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
  // So many workers in a row may be killed by somebody else within kQuickKill of being ready and
  // cost no pause; whoever goes on is a crash loop like any other.
  static constexpr int kFreeKills = 20;
  static constexpr std::chrono::milliseconds kQuickKill{1000};

  // A worker died after `lived` (since it was ready; 0 if it never was). Returns the pause before
  // the next is started. `outside`: killed by somebody else, not by a fault of its own.
  enum class Cause { own, outside };
  std::chrono::milliseconds died(std::chrono::milliseconds lived, Cause cause,
                                 const CrashBackoff& limits);
  // Most that is taken off a pause at random, so that slots which died together do not all come
  // back together, again and again: a fifth.
  static std::chrono::milliseconds jitter(std::chrono::milliseconds pause) { return pause / 5; }

  // Called when the code was replaced, or the slot is wanted anew.
  void reset() { early_deaths_ = quick_kills_ = 0; }
  int early_deaths() const { return early_deaths_; }
  int quick_kills() const { return quick_kills_; }
  // One that has seen so many.
  static Backoff after(int early_deaths, int quick_kills) {
    Backoff backoff;
    backoff.early_deaths_ = early_deaths;
    backoff.quick_kills_ = quick_kills;
    return backoff;
  }

 private:
  bool is_free(std::chrono::milliseconds lived, Cause cause);

  int early_deaths_ = 0;
  int quick_kills_ = 0;
};

}  // namespace mgr::manager
