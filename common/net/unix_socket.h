#pragma once

#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace mgr::net {

struct UnixSocketOptions {
  int mode = 0600;    // of the path
  std::string group;  // a name or a number that the path is given to; empty: unchanged
  int backlog = 0;    // listens with this backlog; 0: bound alone
};

// A bound stream socket at `address`: a path, or '@' and an abstract name. Non-blocking,
// close-on-exec. A path is bound under another name and renamed, so that it never names a socket
// that is not ready (but where that one would be too long); a stale socket is replaced. Errors:
// EADDRINUSE when somebody listens there or has bound it, a file in the way that is no socket, no
// permission, no such group.
Result<UniqueFd> bind_unix_socket(const std::string& address, const UnixSocketOptions& options);

// Gives the path its mode and its group. Errors: as there.
Result<void> dress_unix_socket(const std::string& path, const UnixSocketOptions& options);

}  // namespace mgr::net
