#pragma once

namespace mgr::worker {

// What the application forks has a copy of all that is the mold's or the worker's, and must not act
// as either: hosts ask is_forked() where the application's code comes back to them, before they
// touch anything that this process shares with its parent, and end the process where it says so.

// This process is the mold or a worker: what is forked from now on is not. Before code of the
// application runs in it.
void claim_process();

namespace forked {
extern bool here;  // set by pthread_atfork's handler, so before a second thread can exist
}

// This process was forked by one that had claimed itself, and has not claimed itself. One load.
inline bool is_forked() {
  return forked::here;
}

}  // namespace mgr::worker
