#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <optional>
#include <string_view>

#include "common/server/exchange.h"

namespace mgr::server {

// An IPv4 or IPv6 address as 16 bytes (IPv4 as v4-mapped), so that both compare alike.
struct IpAddress {
  in6_addr bytes{};

  static std::optional<IpAddress> parse(std::string_view text);
  // Nothing for other families.
  static std::optional<IpAddress> from(const sockaddr_storage& address);
  bool is_v4() const;
  bool same_prefix(const IpAddress& other, int bits) const;
};

// Numeric address and port; v4-mapped addresses are written as IPv4. A Unix address has its path
// (an abstract one with '@' in front), empty when unnamed.
Endpoint to_endpoint(const sockaddr_storage& address, socklen_t length);

}  // namespace mgr::server
