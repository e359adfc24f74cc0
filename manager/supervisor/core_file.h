#pragma once

#include <sys/types.h>

#include <string>

namespace mgr::manager {

// Where the core dump of a process went that has died with one (core(5)), for people: the file's
// path, or the program that the kernel gave it to. Empty where it can't be told. `directory`: the
// process's own, for a relative pattern. `root`: where /proc is found ("/" outside of tests).
//
// What of the pattern is not known any more (names, times) is found by looking for the newest file
// that fits.
std::string where_core_went(pid_t pid, const std::string& directory, const std::string& root = "/");

}  // namespace mgr::manager
