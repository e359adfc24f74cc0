#include "common/settings/cpus.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <functional>
#include <sstream>
#include <string_view>
#include <vector>

namespace mgr {
namespace {

constexpr int kMostWorkers = 512;
constexpr std::uint64_t kWorkerBytes = 32u << 20;
// cgroup v1 writes "no limit" as the largest number of whole pages.
constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 62;

std::optional<std::string> first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return {};
  return line;
}

std::optional<std::int64_t> number_in(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return value;
}

std::optional<std::int64_t> number_file(const std::string& path) {
  const std::optional<std::string> line = first_line(path);
  return line ? number_in(*line) : std::nullopt;
}

// The directories of this process's cgroup and of those above it, for one controller.
struct Hierarchy {
  enum class Version { v1, v2 };
  Version version;
  std::vector<std::string> directories;
};

std::vector<std::string> upwards(const std::string& mount, std::string path) {
  std::vector<std::string> directories;
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

// Lines of /proc/self/cgroup: "0::/user.slice" (v2), "4:cpu,cpuacct:/user.slice" (v1).
std::vector<Hierarchy> hierarchies(const std::string& root, std::string_view controller) {
  std::vector<Hierarchy> found;
  const std::string base = root + "/sys/fs/cgroup";
  std::ifstream cgroups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(cgroups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      found.push_back({Hierarchy::Version::v2, upwards(base, path)});
    } else if (lists(controllers, controller)) {
      found.push_back({Hierarchy::Version::v1, upwards(base + "/" + controllers, path)});
      found.push_back(
          {Hierarchy::Version::v1, upwards(base + "/" + std::string(controller), path)});
    }
  }
  return found;
}

// "150000 100000", "max 100000"
std::optional<double> quota_v2(const std::string& directory) {
  const std::optional<std::string> line = first_line(directory + "/cpu.max");
  if (!line) return {};
  std::istringstream fields(*line);
  std::string quota, period;
  fields >> quota >> period;
  const auto numerator = number_in(quota);
  const auto denominator = number_in(period);
  if (!numerator || !denominator || *denominator <= 0) return {};
  return static_cast<double>(*numerator) / static_cast<double>(*denominator);
}

// The quota is -1 where there is none.
std::optional<double> quota_v1(const std::string& directory) {
  const auto numerator = number_file(directory + "/cpu.cfs_quota_us");
  const auto denominator = number_file(directory + "/cpu.cfs_period_us");
  if (!numerator || !denominator || *numerator <= 0 || *denominator <= 0) return {};
  return static_cast<double>(*numerator) / static_cast<double>(*denominator);
}

std::optional<std::uint64_t> memory_of(const std::string& directory, Hierarchy::Version version) {
  const bool v2 = version == Hierarchy::Version::v2;
  const auto bytes = number_file(directory + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  if (!bytes || *bytes <= 0 || static_cast<std::uint64_t>(*bytes) >= kNoLimit) return {};
  return static_cast<std::uint64_t>(*bytes);
}

// The least of what `read` finds in all directories of the hierarchies of `controller`.
template <typename Value>
std::optional<Value> least(
    const std::string& root, std::string_view controller,
    const std::function<std::optional<Value>(const std::string&, Hierarchy::Version)>& read) {
  std::optional<Value> result;
  for (const Hierarchy& hierarchy : hierarchies(root, controller)) {
    for (const std::string& directory : hierarchy.directories) {
      const std::optional<Value> value = read(directory, hierarchy.version);
      if (value) result = result ? std::min(*result, *value) : *value;
    }
  }
  return result;
}

int cpus_of_affinity() {
  // Larger than any machine's mask, so that the kernel never refuses it.
  constexpr int kMostCpus = 8192;
  cpu_set_t* set = CPU_ALLOC(kMostCpus);
  const std::size_t size = CPU_ALLOC_SIZE(kMostCpus);
  CPU_ZERO_S(size, set);
  const bool known = ::sched_getaffinity(0, size, set) == 0;
  const int count =
      known ? CPU_COUNT_S(size, set) : static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  CPU_FREE(set);
  return std::max(1, count);
}

}  // namespace

int usable_cpus(const std::string& root) {
  return usable_cpus(cpus_of_affinity(), root);
}

int usable_cpus(int affinity, const std::string& root) {
  const std::optional<double> quota =
      least<double>(root, "cpu", [](const std::string& directory, Hierarchy::Version version) {
        return version == Hierarchy::Version::v2 ? quota_v2(directory) : quota_v1(directory);
      });
  if (!quota) return std::max(1, affinity);
  const double allowed = std::ceil(*quota);
  return allowed < affinity ? std::max(1, static_cast<int>(allowed)) : affinity;
}

std::optional<std::uint64_t> memory_limit(const std::string& root) {
  return least<std::uint64_t>(root, "memory", memory_of);
}

int automatic_workers(int cpus, std::optional<std::uint64_t> limit, std::uint64_t mold_bytes) {
  int workers = std::clamp(cpus, 1, kMostWorkers);
  if (limit) {
    const std::uint64_t fit = *limit / 10 * 8 / (kWorkerBytes + mold_bytes);
    if (fit < static_cast<std::uint64_t>(workers)) workers = static_cast<int>(fit);
  }
  return std::max(1, workers);
}

int wanted_workers(const Settings& settings) {
  return settings.workers > 0 ? settings.workers
                              : automatic_workers(usable_cpus(), memory_limit(), 0);
}

}  // namespace mgr
