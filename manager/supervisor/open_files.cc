#include "manager/supervisor/open_files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/resource.h>

#include <cerrno>

#include "common/base/unique_fd.h"

namespace mgr::manager {
namespace {

constexpr rlim_t kReserve = 24;

}  // namespace

Result<void> room_for(int descriptors) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return {};
  // The lowest free number: as many are open, or nearly.
  const UniqueFd lowest(::fcntl(2, F_DUPFD_CLOEXEC, 0));
  const auto open = static_cast<rlim_t>(lowest ? lowest.get() : static_cast<int>(limit.rlim_cur));
  if (open + static_cast<rlim_t>(descriptors) + kReserve <= limit.rlim_cur) return {};
  return Error(fmt::format("Too many open files: {} more, {} are open, and the limit is {} "
                           "(RLIMIT_NOFILE, ulimit -n)",
                           descriptors, open, limit.rlim_cur),
               EMFILE);
}

}  // namespace mgr::manager
