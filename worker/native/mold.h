#pragma once

#include "common/settings/application_name.h"

namespace mgr::native {

// The life of a mold with a C++ application: takes over the inherited descriptors, loads the
// library if the order says so, and forks a worker whenever it is told to. Returns an exit status:
// in a worker its own, in the mold after a failed load. A mold whose supervisor is gone ends here.
int run_mold();

}  // namespace mgr::native
