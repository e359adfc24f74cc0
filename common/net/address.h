#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace mgr::net {

// One entry of the setting `bind`, as parsed; nothing is resolved or opened.
struct BindAddress {
  enum class Kind {
    tcp,            // host, port; an empty host means both families, or the one that the host has
    unix_path,      // path, absolute
    unix_abstract,  // path, without the '@'
    fd,             // fd, an inherited listening socket
  };
  Kind kind = Kind::tcp;
  std::string host;  // a name or a numeric address, IPv6 without its brackets
  int port = 0;      // 0: one that the kernel chooses
  std::string path;
  int fd = -1;
  std::string text;  // as given
};

// What parse_bind_address() takes, for messages.
inline constexpr std::string_view kBindForms =
    "host:port, [v6]:port, :port, unix:/path, unix:@abstract or fd://N";

// Errors name the text and what is wrong with it; the caller adds kBindForms.
Result<BindAddress> parse_bind_address(std::string_view text);

// An IP network, or a single address (the longest prefix). IPv4 in IPv4-mapped IPv6 form is IPv4.
struct Network {
  int family = 0;  // AF_INET or AF_INET6
  std::array<std::uint8_t, 16> address{};
  int prefix = 0;

  // `host`: numeric. False for anything else, and for the other family.
  bool contains(std::string_view host) const;
};

// `10.0.0.0/8`, `::1`. Errors: no address, prefix out of range, bits set behind the prefix.
Result<Network> parse_network(std::string_view text);

// A Unix socket's address: a path, or an abstract name written with a leading '@'.
struct UnixAddress {
  sockaddr_un address{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

// Longest path, or abstract name with its '@', in bytes.
inline constexpr std::size_t kMaxUnixPath = sizeof(sockaddr_un::sun_path) - 1;

// Errors: empty, or longer than kMaxUnixPath.
Result<UnixAddress> make_unix_address(std::string_view text);

}  // namespace mgr::net
