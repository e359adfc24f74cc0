#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

namespace mgr::manager {

// What /proc tells of a process; nothing where it can't be read, as when the process has ended.

// Resident set in bytes.
std::optional<std::uint64_t> resident_bytes(pid_t pid);
// When it began, in seconds since 1970, to the clock tick (10 ms).
std::optional<double> start_time(pid_t pid);

}  // namespace mgr::manager
