#pragma once

#include "worker/sdk/include/mgr/abi.h"

namespace mgr::native {

// What this worker offers to a library. `call` is a Call, `worker` a Dispatcher.
const mgr_host_table& host_table();

}  // namespace mgr::native
