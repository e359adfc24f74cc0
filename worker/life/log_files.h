#pragma once

#include <vector>

#include "common/base/unique_fd.h"
#include "common/ipc/messages.h"

namespace mgr::worker {

// Obeys a Reopen: `descriptors` take the places of kLogFd and kAccessLogFd, each at once, so that a
// record is written to the one file or the other. False: not all that were announced have come.
bool take_log_files(const ipc::Reopen& order, const std::vector<UniqueFd>& descriptors);

}  // namespace mgr::worker
