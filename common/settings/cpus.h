#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/settings/settings.h"

namespace mgr {

inline constexpr int kMostWorkers = 512;

// What `workers: auto` counts: the CPUs, as far as the memory limit leaves room. `root` is where
// /proc and /sys/fs/cgroup are found ("/" outside of tests). What can't be read does not limit.

// CPUs that this process may use: its affinity, cut to the CPU quota (rounded up) of its cgroup and
// the cgroups above it, version 2 or 1. At least 1.
int usable_cpus(const std::string& root = "/");

// The same with the affinity given.
int usable_cpus(int affinity, const std::string& root);

// The least memory limit of this process's cgroup and those above it, in bytes; nothing: none.
std::optional<std::uint64_t> memory_limit(const std::string& root = "/");

// Workers for `cpus` that fit in 0.8 of `limit`, each taking 32 MiB and what the mold has to
// itself. 1 to 512.
int automatic_workers(int cpus, std::optional<std::uint64_t> limit, std::uint64_t mold_bytes);

// The setting `workers`, with `auto` counted on this machine.
int wanted_workers(const Settings& settings);

}  // namespace mgr
