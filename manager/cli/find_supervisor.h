#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/net/control_path.h"
#include "common/settings/sources/environment.h"
#include "manager/cli/command_line.h"
#include "manager/cli/control_client.h"

namespace mgr::cli {

// Where clients look for supervisors.
struct Places {
  settings::Environment variables;
  net::ControlEnvironment control;
  std::string proc_net_unix = "/proc/net/unix";

  static Places of_process();
};

// The control socket of the supervisor that `target` means: --control, -i NAME, $MGR_CONTROL, the
// `control` or the name of -c FILE, else the only live one in the default places. Live is one that
// takes a connection and is trusted (see below). Errors are one line: none, or several with
// the argument that picks each.
Result<std::string> find_supervisor(const Target& target, const Places& places);

// A connection to it. Errors: nobody there, or a server that is not to be trusted: one that is
// neither ours nor root's, nor that of the user whose directory it lies in (net::vouched_for).
Result<ControlClient> connect_supervisor(const std::string& address, const Places& places);

}  // namespace mgr::cli
