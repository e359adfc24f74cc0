#include "manager/supervisor/backoff.h"

#include <algorithm>

namespace mgr::manager {

std::chrono::milliseconds Backoff::died(std::chrono::milliseconds lived, Cause cause,
                                        const CrashBackoff& limits) {
  if (lived >= kSettled) early_deaths_ = 0;
  if (is_free(lived, cause)) return std::chrono::milliseconds(0);
  ++early_deaths_;
  if (early_deaths_ == 1) return std::chrono::milliseconds(0);
  auto pause = limits.first;
  for (int i = 2; i < early_deaths_ && pause < limits.longest; ++i) pause *= 2;
  return std::min(pause, limits.longest);
}

bool Backoff::is_free(std::chrono::milliseconds lived, Cause cause) {
  if (cause == Cause::own || lived >= kQuickKill) {
    quick_kills_ = 0;
    return cause == Cause::outside;
  }
  return ++quick_kills_ <= kFreeKills;
}

}  // namespace mgr::manager
