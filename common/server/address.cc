#include "common/server/address.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string>

namespace mgr::server {
namespace {

in6_addr map_v4(const in_addr& v4) {
  in6_addr mapped{};
  mapped.s6_addr[10] = mapped.s6_addr[11] = 0xff;
  std::memcpy(mapped.s6_addr + 12, &v4, 4);
  return mapped;
}

std::string format(const in6_addr& address) {
  std::array<char, INET6_ADDRSTRLEN> text;
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    inet_ntop(AF_INET, address.s6_addr + 12, text.data(), text.size());
  } else {
    inet_ntop(AF_INET6, &address, text.data(), text.size());
  }
  return text.data();
}

Endpoint unix_endpoint(const sockaddr_storage& address, socklen_t length) {
  const auto& un = reinterpret_cast<const sockaddr_un&>(address);
  const std::size_t offset = offsetof(sockaddr_un, sun_path);
  Endpoint endpoint;
  endpoint.is_unix = true;
  if (length <= offset) return endpoint;
  if (un.sun_path[0] == '\0') {
    endpoint.host = "@" + std::string(un.sun_path + 1, length - offset - 1);
  } else {
    endpoint.host.assign(un.sun_path, strnlen(un.sun_path, length - offset));
  }
  return endpoint;
}

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  std::array<char, INET6_ADDRSTRLEN> copy;
  if (text.size() >= copy.size()) return std::nullopt;
  std::memcpy(copy.data(), text.data(), text.size());
  copy[text.size()] = '\0';
  IpAddress address;
  in_addr v4;
  if (inet_pton(AF_INET, copy.data(), &v4) == 1) {
    address.bytes = map_v4(v4);
    return address;
  }
  if (inet_pton(AF_INET6, copy.data(), &address.bytes) == 1) return address;
  return std::nullopt;
}

std::optional<IpAddress> IpAddress::from(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    return IpAddress{map_v4(reinterpret_cast<const sockaddr_in&>(address).sin_addr)};
  }
  if (address.ss_family == AF_INET6) {
    return IpAddress{reinterpret_cast<const sockaddr_in6&>(address).sin6_addr};
  }
  return std::nullopt;
}

bool IpAddress::is_v4() const {
  return IN6_IS_ADDR_V4MAPPED(&bytes);
}

bool IpAddress::same_prefix(const IpAddress& other, int bits) const {
  const auto whole = static_cast<std::size_t>(bits / 8);
  if (std::memcmp(bytes.s6_addr, other.bytes.s6_addr, whole) != 0) return false;
  const int rest = bits % 8;
  if (rest == 0) return true;
  const int difference = bytes.s6_addr[whole] ^ other.bytes.s6_addr[whole];
  return (difference >> (8 - rest)) == 0;
}

Endpoint to_endpoint(const sockaddr_storage& address, socklen_t length) {
  if (address.ss_family == AF_UNIX) return unix_endpoint(address, length);
  Endpoint endpoint;
  if (const auto ip = IpAddress::from(address)) endpoint.host = format(ip->bytes);
  if (address.ss_family == AF_INET) {
    endpoint.port = ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  } else if (address.ss_family == AF_INET6) {
    endpoint.port = ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  }
  return endpoint;
}

}  // namespace mgr::server
