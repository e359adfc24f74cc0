#include "manager/supervisor/saved_state.h"

namespace mgr::manager {

int saved_state_format() {
  return 2;
}

}  // namespace mgr::manager
