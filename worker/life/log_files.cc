#include "worker/life/log_files.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/ipc/inherited.h"

namespace mgr::worker {

bool take_log_files(const ipc::Reopen& order, const std::vector<UniqueFd>& descriptors) {
  const std::size_t announced = (order.log ? 1 : 0) + (order.access_log ? 1 : 0);
  if (descriptors.size() != announced) return false;
  auto next = descriptors.begin();
  if (order.log) ::dup3((next++)->get(), ipc::kLogFd, O_CLOEXEC);
  if (order.access_log) ::dup3((next++)->get(), ipc::kAccessLogFd, O_CLOEXEC);
  return true;
}

}  // namespace mgr::worker
