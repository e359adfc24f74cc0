#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/settings/settings.h"
#include "manager/supervisor/restarts.h"
#include "manager/supervisor/times.h"

namespace mgr::manager {

// How much one worker may use before it is replaced (max_requests, max_lifetime, max_memory). Fixed
// when the worker starts; 0: without limit.
struct RecycleLimits {
  std::uint64_t requests = 0;
  Millis lifetime{0};
  std::uint64_t memory = 0;  // resident, in bytes

  // Something has to be looked at now and then.
  bool watched() const { return requests > 0 || memory > 0; }
};

// `random(n)` gives a number from 0 to n: the part of max_requests_jitter that this worker gets.
template <typename Random>
RecycleLimits recycle_limits(const Settings& settings, Random random) {
  RecycleLimits limits{0, settings.max_lifetime, static_cast<std::uint64_t>(settings.max_memory)};
  if (settings.max_requests > 0) {
    limits.requests = static_cast<std::uint64_t>(settings.max_requests) +
                      random(static_cast<std::uint64_t>(settings.max_requests_jitter));
  }
  return limits;
}

// What one worker has used: requests that were answered, time since it was ready, resident bytes (0
// where no limit asks for them).
struct Usage {
  std::uint64_t requests = 0;
  Millis lived{0};
  std::uint64_t memory = 0;
};

struct RecycleDue {
  RestartReason reason;
  std::string why;  // "max_requests: 1003 of 1000"
};
// The first limit that is reached.
std::optional<RecycleDue> recycle_due(const RecycleLimits& limits, const Usage& usage);

}  // namespace mgr::manager
