#pragma once

#include "worker/life/forked.h"
#include "worker/python/py.h"

namespace mgr::python {

[[noreturn]] void end_forked();

// Where the application's code comes back, with the GIL and its exception set, if it raised one: a
// process that the application has forked ends here (mgr_host/forked.py), and leaves alone what it
// shares with the worker.
inline void end_if_forked() {
  if (worker::is_forked()) [[unlikely]]
    end_forked();
}

}  // namespace mgr::python
