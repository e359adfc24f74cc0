#pragma once

#include "manager/cli/command_line.h"
#include "manager/cli/commands.h"
#include "manager/cli/find_supervisor.h"

namespace mgr::cli {

// All commands but run, check, config and version: asks the supervisor that the command line
// means and prints what it answers. Returns 0, or 1 with the reason on console.err.
int ask_supervisor(const CommandLine& line, const Places& places, Console console);

}  // namespace mgr::cli
