#include "common/net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>

namespace mgr::net {
namespace {

constexpr int kMaxFd = 65535;

std::string in_quotes(std::string_view text) {
  return "'" + std::string(text) + "'";
}

std::optional<int> parse_number(std::string_view text, int longest) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return {};
  if (value < 0 || value > longest || text.front() == '-') return {};
  return value;
}

bool is_ipv4(std::string_view host) {
  in_addr address;
  return ::inet_pton(AF_INET, std::string(host).c_str(), &address) == 1;
}

bool is_ipv6(std::string_view host) {
  // A zone ("fe80::1%eth0") is resolved when the socket is bound.
  const std::string address(host.substr(0, host.find('%')));
  in6_addr parsed;
  return ::inet_pton(AF_INET6, address.c_str(), &parsed) == 1;
}

bool is_host_name(std::string_view host) {
  const auto allowed = [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '-' || c == '_';
  };
  const auto numeric = [](unsigned char c) { return std::isdigit(c) || c == '.'; };
  if (host.size() > 253 || !std::all_of(host.begin(), host.end(), allowed)) return false;
  return !std::all_of(host.begin(), host.end(), numeric);
}

Result<BindAddress> parse_unix(std::string_view rest, BindAddress address) {
  if (rest.starts_with('@')) {
    address.kind = BindAddress::Kind::unix_abstract;
    address.path = rest.substr(1);
    if (address.path.empty()) return Error(in_quotes(address.text) + " has no name after the @");
  } else {
    address.kind = BindAddress::Kind::unix_path;
    address.path = rest;
    if (!rest.starts_with('/')) return Error(in_quotes(address.text) + " is no absolute path");
    if (rest.ends_with('/')) return Error(in_quotes(address.text) + " names a directory");
  }
  const Result<UnixAddress> fits = make_unix_address(rest);
  if (!fits) return fits.error();
  return address;
}

Result<BindAddress> parse_tcp(std::string_view text, BindAddress address) {
  address.kind = BindAddress::Kind::tcp;
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return Error(in_quotes(text) + " has no port");
  const std::string_view host = text.substr(0, colon);
  const std::optional<int> port = parse_number(text.substr(colon + 1), 65535);
  if (host.starts_with('[')) {
    if (!host.ends_with(']')) return Error(in_quotes(text) + " has no port");
    address.host = host.substr(1, host.size() - 2);
    if (!is_ipv6(address.host))
      return Error(in_quotes(text) + " has no IPv6 address in its brackets");
  } else {
    address.host = host;
    if (host.find(':') != std::string_view::npos)
      return Error(in_quotes(text) + ": an IPv6 address needs brackets, as [::1]:8000");
    if (!host.empty() && !is_ipv4(host) && !is_host_name(host))
      return Error(in_quotes(text) + " has no valid host");
  }
  if (!port) return Error(in_quotes(text) + ": a port is a number from 0 to 65535");
  address.port = *port;
  return address;
}

int bits(int family) {
  return family == AF_INET ? 32 : 128;
}

std::optional<Network> parse_address(std::string_view text) {
  const std::string host(text);
  Network network;
  in6_addr v6;
  if (::inet_pton(AF_INET, host.c_str(), network.address.data()) == 1) {
    network.family = AF_INET;
  } else if (::inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    const bool mapped = IN6_IS_ADDR_V4MAPPED(&v6);
    network.family = mapped ? AF_INET : AF_INET6;
    std::copy(v6.s6_addr + (mapped ? 12 : 0), v6.s6_addr + 16, network.address.begin());
  } else {
    return {};
  }
  network.prefix = bits(network.family);
  return network;
}

bool same_prefix(const Network& a, const Network& b, int prefix) {
  for (int bit = 0; bit < prefix; ++bit) {
    const int mask = 0x80 >> (bit % 8);
    if ((a.address[bit / 8] & mask) != (b.address[bit / 8] & mask)) return false;
  }
  return true;
}

bool bits_behind_prefix(const Network& network) {
  for (int bit = network.prefix; bit < bits(network.family); ++bit)
    if (network.address[bit / 8] & (0x80 >> (bit % 8))) return true;
  return false;
}

}  // namespace

Result<BindAddress> parse_bind_address(std::string_view text) {
  BindAddress address;
  address.text = text;
  if (text.empty()) return Error("an empty address");
  if (text.find('\0') != std::string_view::npos) return Error("an address with a NUL byte");
  if (text.starts_with("unix:")) return parse_unix(text.substr(5), std::move(address));
  if (text.starts_with("fd://")) {
    const std::optional<int> fd = parse_number(text.substr(5), kMaxFd);
    if (!fd || *fd < 3) return Error(in_quotes(text) + ": descriptors are numbers from 3 to 65535");
    address.kind = BindAddress::Kind::fd;
    address.fd = *fd;
    return address;
  }
  return parse_tcp(text, std::move(address));
}

bool Network::contains(std::string_view host) const {
  const std::optional<Network> other = parse_address(host);
  return other && other->family == family && same_prefix(*this, *other, prefix);
}

Result<Network> parse_network(std::string_view text) {
  const std::size_t slash = text.find('/');
  std::optional<Network> network = parse_address(text.substr(0, slash));
  if (!network) return Error(in_quotes(text) + " is no IP address or network");
  if (slash == std::string_view::npos) return *network;
  const std::optional<int> prefix = parse_number(text.substr(slash + 1), bits(network->family));
  if (!prefix) {
    return Error(in_quotes(text) + ": a prefix is a number from 0 to " +
                 std::to_string(bits(network->family)));
  }
  network->prefix = *prefix;
  if (bits_behind_prefix(*network))
    return Error(in_quotes(text) + " has bits set behind its prefix");
  return *network;
}

Result<UnixAddress> make_unix_address(std::string_view text) {
  if (text.empty()) return Error("an empty socket path");
  if (text.size() > kMaxUnixPath) {
    return Error(in_quotes(text) + " is longer than the " + std::to_string(kMaxUnixPath) +
                 " bytes that a socket's path may have");
  }
  UnixAddress result;
  result.address.sun_family = AF_UNIX;
  std::copy(text.begin(), text.end(), result.address.sun_path);
  if (text.front() == '@') result.address.sun_path[0] = '\0';
  // A path counts its terminator; an abstract name is exactly as long as it is.
  const std::size_t used = text.front() == '@' ? text.size() : text.size() + 1;
  result.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + used);
  return result;
}

}  // namespace mgr::net
