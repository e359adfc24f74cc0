#include "manager/supervisor/busy_ratios.h"

#include <algorithm>
#include <cmath>

namespace mgr::manager {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

}  // namespace

double BusyRatios::of(WorkerId worker, const ipc::WorkerRecord& record, Millis age) {
  const std::uint64_t now = ipc::monotonic_ns();
  const std::uint64_t busy = ipc::busy_ns(record, now);
  auto [it, fresh] = samples_.try_emplace(worker, Sample{now, busy, 0});
  Sample& sample = it->second;
  if (fresh) {
    const auto lived = static_cast<double>(age.count()) * 1e6;
    sample.ratio = lived > 0 ? static_cast<double>(busy) / lived : 0;
  } else if (now - sample.at_ns >= kSecond && busy >= sample.busy_ns) {
    sample.ratio =
        static_cast<double>(busy - sample.busy_ns) / static_cast<double>(now - sample.at_ns);
    sample.at_ns = now;
    sample.busy_ns = busy;
  }
  return std::round(std::clamp(sample.ratio, 0.0, 1.0) * 1000) / 1000;
}

void BusyRatios::keep(const std::map<WorkerId, Worker>& workers) {
  std::erase_if(samples_, [&](const auto& entry) { return !workers.contains(entry.first); });
}

}  // namespace mgr::manager
