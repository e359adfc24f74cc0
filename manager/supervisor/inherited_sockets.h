#pragma once

#include <string>
#include <vector>

#include "common/base/unique_fd.h"

namespace mgr::manager {

// What the service manager passes to this process (sd_listen_fds(3)): the sockets of a socket unit,
// and what an earlier process has put into the descriptor store (sd_pid_notify_with_fds(3)).
struct InheritedSockets {
  struct Socket {
    std::string name;
    UniqueFd fd;
  };
  std::vector<UniqueFd> listeners;  // of the application: whatever has no other meaning
  std::vector<UniqueFd> admin;      // named "admin" (FileDescriptorName=): the admin listener's
  std::vector<Socket> stored;       // Listeners has put them there

  // Takes $LISTEN_FDS, $LISTEN_PID and $LISTEN_FDNAMES, and removes them: no child is meant.
  static InheritedSockets take_from_environment();
};

// Begins the names of what Listeners stores; no socket unit should use it.
inline constexpr char kStoredPrefix[] = "mgr-";

}  // namespace mgr::manager
