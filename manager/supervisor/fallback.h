#pragma once

#include <string_view>

#include "manager/supervisor/program.h"

namespace mgr::manager {

// The way back of a successor to the program before it, for as long as its loop has not turned:
// whatever ends it until then (an error, a fatal signal, exit(), its own slowness) executes that
// program again in the same process, which goes on from the same state. One in a process, since
// signal handlers have no other way to what they need.
class Fallback {
 public:
  // `program` is started as a successor. All other signals stay blocked, as they were.
  static void arm(const Program& program);
  static bool armed();
  // Goes back, and leaves `why` for the program before.
  [[noreturn]] static void take(std::string_view why);
  // The loop turns: no way back from here.
  static void disarm();
};

}  // namespace mgr::manager
