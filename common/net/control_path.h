#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace mgr::net {

// Where control sockets live: what the supervisor that binds one and the client that looks for one
// must agree on. A control socket is written as a path, or as '@' and an abstract name.

// What of the process decides about the places.
struct ControlEnvironment {
  uid_t uid = 0;
  std::string runtime_directory;  // $RUNTIME_DIRECTORY; systemd may give several with ':' between
  std::string xdg_runtime_dir;    // $XDG_RUNTIME_DIR
  std::string run_directory = "/run/mgr";
  std::string tmp_directory = "/tmp";

  static ControlEnvironment of_process();
};

// The directories that may hold control sockets, best first, with what lies in /run/mgr, where each
// service of a service manager has a directory of its own. The others need not exist.
std::vector<std::string> control_directories(const ControlEnvironment& environment);

// The socket that a supervisor called `name` binds: in the first directory that can be made and
// written, else an abstract one. Makes the directory ($XDG_RUNTIME_DIR/mgr and /tmp/mgr-UID with
// mode 0700, /run/mgr with 0755). A directory that is another user's, or is no directory, is passed
// over. Errors: no place takes a name of this length.
Result<std::string> choose_control_socket(std::string_view name,
                                          const ControlEnvironment& environment);

// "@mgr-1000-shop"
std::string abstract_control_name(uid_t uid, std::string_view name);

// A socket that could be a supervisor's; nobody has connected to it yet.
struct ControlCandidate {
  std::string address;  // path or '@' and name
  std::string name;     // of the supervisor
};

// All that lie in the default places, /run/mgr and root's abstract ones included: directories in
// their order, then abstract sockets listed in `proc_net_unix`. Each address once.
std::vector<ControlCandidate> find_control_sockets(
    const ControlEnvironment& environment, const std::string& proc_net_unix = "/proc/net/unix");

// Whether the file system vouches for user `server` as the one who serves the control socket
// `address`: its directory belongs to that user, each one above to root or that user, and nobody
// else can write them. So a directory that root made for a service's user is to be trusted, and one
// that anybody could have made in /tmp is not. False for abstract names, which anybody may take.
bool vouched_for(const std::string& address, uid_t server);

}  // namespace mgr::net
