#include "common/settings/cpus.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <sstream>
#include <string_view>

#include "common/base/cgroup.h"

namespace mgr {
namespace {

constexpr std::uint64_t kWorkerBytes = 32u << 20;
// cgroup v1 writes "no limit" as the largest number of whole pages.
constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 62;

std::optional<std::int64_t> number_in(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return value;
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

std::optional<std::uint64_t> memory_of(const std::string& directory, Cgroup::Version version) {
  const bool v2 = version == Cgroup::Version::v2;
  const auto bytes = number_file(directory + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
  if (!bytes || *bytes <= 0 || static_cast<std::uint64_t>(*bytes) >= kNoLimit) return {};
  return static_cast<std::uint64_t>(*bytes);
}

// The least of what `read` finds in the cgroups of `controller`, the process's own and those above.
template <typename Value>
std::optional<Value> least(
    const std::string& root, std::string_view controller,
    const std::function<std::optional<Value>(const std::string&, Cgroup::Version)>& read) {
  std::optional<Value> result;
  for (const Cgroup& cgroup : cgroups_of_process(controller, root)) {
    for (const std::string& directory : cgroup.directories) {
      const std::optional<Value> value = read(directory, cgroup.version);
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
      least<double>(root, "cpu", [](const std::string& directory, Cgroup::Version version) {
        return version == Cgroup::Version::v2 ? quota_v2(directory) : quota_v1(directory);
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
