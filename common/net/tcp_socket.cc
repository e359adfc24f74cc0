#include "common/net/tcp_socket.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace mgr::net {
namespace {

struct Host {
  std::string numeric;
  int family;
};

using Found = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<Found> look_up(const std::string& host, const char* port, int family, int flags) {
  addrinfo hints{};
  hints.ai_family = family;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), port, &hints, &found); error != 0) {
    return Error(fmt::format("host '{}': {}", host, ::gai_strerror(error)));
  }
  return Found(found, ::freeaddrinfo);
}

Result<Host> resolve(const std::string& name) {
  auto found = look_up(name, nullptr, AF_UNSPEC, AI_PASSIVE);
  if (!found) return std::move(found).error();
  const addrinfo& first = **found;
  char host[NI_MAXHOST];
  if (::getnameinfo(first.ai_addr, first.ai_addrlen, host, sizeof host, nullptr, 0,
                    NI_NUMERICHOST) != 0) {
    return Error(fmt::format("host '{}': no address", name));
  }
  return Host{host, first.ai_family};
}

void set(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof value);
}

enum class Only6 { yes, no };

Result<UniqueFd> bind_one(const Host& host, int port, Only6 only_v6, Beside beside) {
  UniqueFd fd(::socket(host.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::from_errno("socket");
  set(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  if (only_v6 == Only6::yes) set(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1);
  const auto address = look_up(host.numeric, std::to_string(port).c_str(), host.family,
                               AI_NUMERICHOST | AI_NUMERICSERV);
  if (!address) return address.error();
  const auto bind = [&] {
    return ::bind(fd.get(), (*address)->ai_addr, (*address)->ai_addrlen) == 0;
  };
  // Two sockets with SO_REUSEADDR may have one port until one of them listens: it is for the
  // connections that a predecessor has left in TIME_WAIT, and off again until we listen.
  bool bound = bind();
  if (!bound && errno == EADDRINUSE) {
    set(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    bound = bind();
    if (!bound && errno == EADDRINUSE && beside == Beside::yes) {
      set(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);
      bound = bind();
    }
    const int error = errno;
    set(fd.get(), SOL_SOCKET, SO_REUSEADDR, 0);
    errno = error;
  }
  if (!bound) return Error(std::strerror(errno), errno);
  return fd;
}

// Both families, or the one that this machine has.
Result<std::vector<UniqueFd>> bind_both(int port, Beside beside) {
  std::vector<UniqueFd> sockets;
  auto v6 = bind_one({"::", AF_INET6}, port, Only6::yes, beside);
  if (v6) {
    const auto bound = bound_to(v6->get());
    if (!bound) return bound.error();
    port = port_of(*bound);
    sockets.push_back(std::move(*v6));
  } else if (v6.error().code() != EAFNOSUPPORT && v6.error().code() != EADDRNOTAVAIL) {
    return std::move(v6).error();
  }
  auto v4 = bind_one({"0.0.0.0", AF_INET}, port, Only6::no, beside);
  if (v4) {
    sockets.push_back(std::move(*v4));
  } else if (v4.error().code() != EAFNOSUPPORT || sockets.empty()) {
    return std::move(v4).error();
  }
  return sockets;
}

}  // namespace

std::string format_address(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
    return fmt::format("{}:{}", text, ntohs(in.sin_port));
  }
  if (address.ss_family == AF_INET6) {
    const auto& in6 = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof text);
    return fmt::format("[{}]:{}", text, ntohs(in6.sin6_port));
  }
  const auto& un = reinterpret_cast<const sockaddr_un&>(address);
  return std::string("unix:") + (un.sun_path[0] ? un.sun_path : "@") +
         (un.sun_path[0] ? "" : un.sun_path + 1);
}

Result<sockaddr_storage> bound_to(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
    return Error::from_errno("getsockname");
  }
  return storage;
}

int port_of(const sockaddr_storage& address) {
  switch (address.ss_family) {
    case AF_INET:
      return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
    case AF_INET6:
      return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
    default:
      return 0;
  }
}

Result<std::vector<UniqueFd>> bind_tcp(const BindAddress& wanted, Beside beside) {
  CHECK(wanted.kind == BindAddress::Kind::tcp);
  if (wanted.host.empty()) return bind_both(wanted.port, beside);
  auto host = resolve(wanted.host);
  if (!host) return std::move(host).error();
  auto fd = bind_one(*host, wanted.port, Only6::no, beside);
  if (!fd) return std::move(fd).error();
  std::vector<UniqueFd> sockets;
  sockets.push_back(std::move(*fd));
  return sockets;
}

bool listen(int fd, int backlog) {
  set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  return ::listen(fd, backlog) == 0;
}

}  // namespace mgr::net
