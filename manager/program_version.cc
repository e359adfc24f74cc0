// By itself, so that the tests' builds can have another.

#include "manager/program_version.h"

namespace mgr {

const char* program_version() {
  return MGR_VERSION;
}

}  // namespace mgr
