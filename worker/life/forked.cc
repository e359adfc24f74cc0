#include "worker/life/forked.h"

#include <pthread.h>

#include "common/base/check.h"

namespace mgr::worker {

bool forked::here = false;

void claim_process() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forked::here = true; });
  CHECK(registered == 0);
  forked::here = false;
}

}  // namespace mgr::worker
