#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/net/address.h"

namespace mgr::net {

// Stream sockets bound to `wanted` (Kind::tcp), not listening: one, or two for an empty host, IPv6
// first and on the same port. Non-blocking, close-on-exec, TCP_NODELAY (which connections inherit),
// and without SO_REUSEADDR and SO_REUSEPORT, so that another program that binds the port gets
// EADDRINUSE, before they listen too, instead of the port or a share of the connections. `beside`:
// a port that is in use is taken all the same, by SO_REUSEPORT, for a caller who has a socket of an
// overlapping address there. A host's name is looked up, which may wait. Errors say why, without
// the address.
enum class Beside { no, yes };
Result<std::vector<UniqueFd>> bind_tcp(const BindAddress& wanted, Beside beside = Beside::no);

// listen(2), with SO_REUSEADDR, which connections inherit: those in TIME_WAIT do not keep the next
// start from the port. False: errno.
bool listen(int fd, int backlog);

// "127.0.0.1:80", "[::1]:80", "unix:/path", "unix:@name".
std::string format_address(const sockaddr_storage& address);
// What a socket is bound to.
Result<sockaddr_storage> bound_to(int fd);
// 0: not TCP.
int port_of(const sockaddr_storage& address);

}  // namespace mgr::net
