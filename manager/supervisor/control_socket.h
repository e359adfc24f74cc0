#pragma once

#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/settings/settings.h"

namespace mgr::manager {

// A listening control socket at `address`: a path, bound under a temporary name and renamed so that
// it is never there without listening, or '@' and an abstract name. A stale socket is replaced.
// `group` (name; empty: none) implies mode 0660. Errors: a supervisor listens there already, the
// path is taken by something else, no permission, no such group.
Result<UniqueFd> take_control_socket(const std::string& address, int mode, const std::string& group);

// `workers`, with `auto` counted on this machine.
int wanted_workers(const Settings& settings);

}  // namespace mgr::manager
