// By itself, so that the tests' builds can have another.

#include "manager/supervisor/saved_state.h"

namespace mgr::manager {

int saved_state_format() {
  return 1;
}

}  // namespace mgr::manager
