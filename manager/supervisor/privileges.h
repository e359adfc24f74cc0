#pragma once

#include "common/settings/account.h"

namespace mgr::manager {

// Keeps of root's capabilities those that a supervisor uses (capabilities(7)): binding low ports,
// reading keys, opening logs, giving files to groups, starting and ending workers of another user.
// What it executes has no others either. Nothing without privileges.
void keep_few_capabilities();

// In a child on its way to exec: nothing of what lets the supervisor bind low ports outlives that.
// Root's capabilities come back by it, as root is root.
void drop_capabilities();

// In a child on its way to exec: becomes this user for good, with its HOME, USER and LOGNAME,
// without any capability, and so that no program that it executes has more (no_new_privs).
// Errors name the step; the child must not go on.
Result<void> become(const Account& account);

}  // namespace mgr::manager
