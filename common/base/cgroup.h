#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mgr {

// The control groups (cgroups(7)) of this process for one controller: its own and those above it,
// up to the mount. `root` is where /proc and /sys/fs/cgroup are found ("/" outside of tests).
struct Cgroup {
  enum class Version { v1, v2 };
  Version version = Version::v2;
  // Innermost first. One that this process can't see, as in a container, does not exist.
  std::vector<std::string> directories;
};

// `controller`: "cpu", "memory". Both versions may be there; in a hybrid set-up the files are in
// one.
std::vector<Cgroup> cgroups_of_process(std::string_view controller, const std::string& root = "/");

// How many processes of this process's memory cgroup the kernel's OOM killer has killed so far,
// whether the group's limit or the machine's memory was used up: version 2's `memory.events`,
// version 1's `memory.oom_control`. Where there is no such group, those of the whole machine
// (/proc/vmstat). Nothing where none of them can be read. The innermost group that tells counts:
// version 2 adds those below.
std::optional<std::int64_t> oom_kills(const std::string& root = "/");

// Files of /proc and /sys/fs/cgroup.
std::optional<std::string> first_line(const std::string& path);
// Decimal, and nothing else on the line.
std::optional<std::int64_t> number_file(const std::string& path);
// The number behind `key` in a file of "key number" lines.
std::optional<std::int64_t> number_behind(const std::string& path, std::string_view key);

}  // namespace mgr
