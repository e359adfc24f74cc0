#include "common/base/cgroup.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

namespace mgr {
namespace {

// One outside of this process's cgroup namespace is told as "/../name": nothing of it can be seen
// but what is mounted.
std::vector<std::string> upwards(const std::string& mount, std::string path) {
  std::vector<std::string> directories;
  if (path.find("/..") != std::string::npos) path.clear();
  while (!path.empty() && path != "/") {
    directories.push_back(mount + path);
    path.erase(path.rfind('/'));
  }
  directories.push_back(mount);
  return directories;
}

bool lists(std::string_view controllers, std::string_view wanted) {
  std::istringstream names{std::string(controllers)};
  for (std::string name; std::getline(names, name, ',');)
    if (name == wanted) return true;
  return false;
}

}  // namespace

// Lines of /proc/self/cgroup: "0::/user.slice" (v2), "4:cpu,cpuacct:/user.slice" (v1).
std::vector<Cgroup> cgroups_of_process(std::string_view controller, const std::string& root) {
  std::vector<Cgroup> found;
  const std::string base = root + "/sys/fs/cgroup";
  std::ifstream cgroups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(cgroups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      found.push_back({Cgroup::Version::v2, upwards(base, path)});
    } else if (lists(controllers, controller)) {
      found.push_back({Cgroup::Version::v1, upwards(base + "/" + controllers, path)});
      if (controllers != controller) {
        found.push_back({Cgroup::Version::v1, upwards(base + "/" + std::string(controller), path)});
      }
    }
  }
  return found;
}

std::optional<std::int64_t> oom_kills(const std::string& root) {
  for (const Cgroup& cgroup : cgroups_of_process("memory", root)) {
    const bool v2 = cgroup.version == Cgroup::Version::v2;
    for (const std::string& directory : cgroup.directories) {
      const auto kills =
          number_behind(directory + (v2 ? "/memory.events" : "/memory.oom_control"), "oom_kill");
      if (kills) return kills;
    }
  }
  return number_behind(root + "/proc/vmstat", "oom_kill");
}

std::optional<std::string> first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return {};
  return line;
}

std::optional<std::int64_t> number_file(const std::string& path) {
  const std::optional<std::string> line = first_line(path);
  if (!line) return {};
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(line->data(), line->data() + line->size(), value);
  if (error != std::errc{} || end != line->data() + line->size()) return {};
  return value;
}

std::optional<std::int64_t> number_behind(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  std::string name;
  std::int64_t value = 0;
  while (file >> name >> value) {
    if (name == key) return value;
  }
  return {};
}

}  // namespace mgr
