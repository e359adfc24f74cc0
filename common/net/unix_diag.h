#pragma once

#include <optional>
#include <string>

namespace mgr::net {

// What the kernel knows of a listening Unix socket, from its socket diagnosis (sock_diag(7)).
struct UnixDiagnosis {
  int queued = 0;  // connections that wait in its queue
  // Where it is bound to a path: the file's identity, also after the file was renamed or removed.
  struct File {
    unsigned device = 0;  // as the kernel writes it: major number << 20 | minor number
    unsigned inode = 0;   // the lower 32 bits
    bool operator==(const File&) const = default;
  };
  std::optional<File> file;
};

// Nothing where the kernel does not answer (no Unix socket, netlink forbidden).
std::optional<UnixDiagnosis> diagnose_unix(int fd);

// Does whoever connects to the path reach this socket? Nothing where the kernel does not answer.
std::optional<bool> is_bound_to(int fd, const std::string& path);

// Has some process the socket that the path names now, bound, and does not listen on it (yet)?
// False where the kernel does not answer.
bool is_bound_without_listening(const std::string& path);

}  // namespace mgr::net
