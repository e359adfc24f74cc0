#pragma once

#include <fmt/core.h>

#include <chrono>
#include <string>

namespace mgr::manager {

using Millis = std::chrono::milliseconds;

// How long a child that has nothing left to do may take to leave before it is killed.
inline constexpr Millis kLeaveTime{2000};
// What a draining worker gets beyond graceful_timeout, by which it cuts what still runs itself.
inline constexpr Millis kCutTime{1000};

// What it gets at least where it hangs, and its stack is still to be had.
inline constexpr Millis kDumpTime{10'000};

// "30 s", "1.5 s", for people.
inline std::string seconds(Millis time) {
  if (time.count() % 1000 == 0) return fmt::format("{} s", time.count() / 1000);
  return fmt::format("{:.1f} s", static_cast<double>(time.count()) / 1000);
}

}  // namespace mgr::manager
