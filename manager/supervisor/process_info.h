#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "manager/supervisor/hangs.h"

namespace mgr::manager {

// What /proc tells of a process; nothing where it can't be read, as when the process has ended.

// Resident set in bytes.
std::optional<std::uint64_t> resident_bytes(pid_t pid);
// That part of it which is no file's: what a process forked from it may get to itself.
std::optional<std::uint64_t> unique_bytes(pid_t pid);
// When it began, in seconds since 1970, to the clock tick (10 ms).
std::optional<double> start_time(pid_t pid);
// 'R', 'S', 'T' … (proc(5)), of its main thread.
std::optional<char> process_state(pid_t pid);
// Bit n-1 is signal n.
struct SignalMasks {
  std::uint64_t blocked = 0;
  std::uint64_t caught = 0;
};
std::optional<SignalMasks> signal_masks(pid_t pid, pid_t thread);
std::vector<pid_t> threads_of(pid_t pid);
// Of all of its threads, the main one first.
std::vector<ThreadUse> thread_uses(pid_t pid);
// Empty where it can't be read.
std::string thread_name(pid_t pid, pid_t thread);

}  // namespace mgr::manager
