#pragma once

#include "common/base/result.h"

namespace mgr::manager {

// What the supervisor opens at most to start a worker, beside its listening sockets; or a mold.
inline constexpr int kFilesOfWorker = 4;

// Whether so many more descriptors fit below RLIMIT_NOFILE, and some that stay free for whoever
// asks by the control socket what is wrong. Errors: EMFILE, with the limit.
Result<void> room_for(int descriptors);

}  // namespace mgr::manager
