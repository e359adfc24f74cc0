#pragma once

#include "common/settings/application_name.h"
#include "worker/life/mold.h"
#include "worker/native/library.h"

namespace mgr::native {

// The life of a worker with a C++ application, from its fork to its exit status. `library` is what
// the mold has loaded; null: this worker loads it, by `name`. Ends the process itself where
// something of the application cannot be ended.
int serve(worker::Mold& mold, worker::Identity identity, const Library* library,
          const settings::LibraryName& name);

}  // namespace mgr::native
