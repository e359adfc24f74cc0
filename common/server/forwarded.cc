#include "common/server/forwarded.h"

#include <algorithm>

#include "common/server/syntax.h"

namespace mgr::server {
namespace {

using syntax::equals_ignoring_case;

// "1.2.3.4", "1.2.3.4:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80".
std::optional<Endpoint> parse_node(std::string_view text) {
  std::string_view host = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    host = text.substr(1, end - 1);
    port = text.substr(end + 1);
    if (!port.empty() && !port.starts_with(':')) return std::nullopt;
    if (!port.empty()) port.remove_prefix(1);
  } else if (std::count(text.begin(), text.end(), ':') == 1) {
    host = text.substr(0, text.find(':'));
    port = text.substr(text.find(':') + 1);
  }
  std::uint64_t number = 0;
  if (!port.empty() && (!syntax::parse_decimal(port, number) || number > 65535)) number = 0;
  if (!IpAddress::parse(host)) return std::nullopt;
  Endpoint endpoint;
  endpoint.host = host;
  endpoint.port = static_cast<int>(number);
  return endpoint;
}

std::string_view known_scheme(std::string_view value) {
  if (equals_ignoring_case(value, "http")) return "http";
  if (equals_ignoring_case(value, "https")) return "https";
  return {};
}

// Takes off a list what follows its separator at `at`, if there is one.
std::string_view take_from(std::string_view& list, std::size_t at) {
  const bool alone = at == std::string_view::npos;
  const std::string_view last = syntax::trim(alone ? list : list.substr(at + 1));
  list = alone ? std::string_view() : list.substr(0, at);
  return last;
}

// Takes off a list its last element: what the nearest proxy said. Empty ones are none
// (RFC 9110 5.6.1).
std::string_view take_last_element(std::string_view& list) {
  std::string_view last;
  while (last.empty() && !list.empty()) last = take_from(list, list.rfind(','));
  return last;
}

std::string_view last_element(std::string_view list) {
  return take_last_element(list);
}

bool is_host(std::string_view text) {
  static constexpr auto kBytes = syntax::Bytes::alphanumeric_and("-._~:[]");
  return !text.empty() && kBytes.have_all(text);
}

int to_port(std::string_view text) {
  std::uint64_t number = 0;
  return syntax::parse_decimal(text, number) && number <= 65535 ? static_cast<int>(number) : 0;
}

std::string_view unquote(std::string_view text) {
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') {
    return text.substr(1, text.size() - 2);
  }
  return text;
}

// Where the last separator outside quotes is; npos without one.
std::size_t last_unquoted(std::string_view text, char separator) {
  bool quoted = false;
  std::size_t found = std::string_view::npos;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') quoted = !quoted;
    if (text[i] == separator && !quoted) found = i;
  }
  return found;
}

std::string_view take_last(std::string_view& list, char separator) {
  return take_from(list, last_unquoted(list, separator));
}

}  // namespace

// Walks from the nearest node to the farthest; the first that is not trusted is the client, else
// the last one that is understood. Something that is no address ends the walk.
class ForwardedPolicy::ClientWalk {
 public:
  explicit ClientWalk(const ForwardedPolicy& policy) : policy_(policy) {}
  bool ended() const { return ended_; }
  // Whether the node is the client, as far as is known.
  bool step(std::string_view node) {
    auto endpoint = parse_node(node);
    if (!endpoint) {
      ended_ = true;
      return false;
    }
    ended_ = !policy_.trusts(*IpAddress::parse(endpoint->host));
    client_ = std::move(endpoint);
    return true;
  }
  std::optional<Endpoint> take() { return std::move(client_); }

 private:
  const ForwardedPolicy& policy_;
  bool ended_ = false;
  std::optional<Endpoint> client_;
};

ForwardedPolicy::ForwardedPolicy(const ServerOptions& options) : family_(options.forwarded) {
  for (const std::string& what : options.forwarded_trust) {
    if (what == "host") trust_host_ = true;
    if (what == "port") trust_port_ = true;
  }
  for (const std::string& who : options.trusted_proxies) {
    if (who == "*") everybody_ = true;
    if (who == "unix") unix_ = true;
    const std::size_t slash = who.find('/');
    const auto address = IpAddress::parse(std::string_view(who).substr(0, slash));
    if (!address) continue;
    int bits = 128;
    if (slash != std::string::npos) {
      bits = std::clamp(to_port(std::string_view(who).substr(slash + 1)), 0, 128);
      if (address->is_v4() && who.find(':') == std::string::npos) bits = std::min(bits, 32) + 96;
    }
    networks_.push_back({*address, bits});
  }
}

bool ForwardedPolicy::trusts(const IpAddress& address) const {
  if (everybody_) return true;
  return std::any_of(networks_.begin(), networks_.end(), [&](const Network& network) {
    return network.address.same_prefix(address, network.bits);
  });
}

bool ForwardedPolicy::trusts_peer(const sockaddr_storage& peer) const {
  if (family_ == ForwardedFamily::off) return false;
  if (peer.ss_family == AF_UNIX) return unix_ || everybody_;
  const auto address = IpAddress::from(peer);
  return address && trusts(*address);
}

ForwardedPolicy::Claim ForwardedPolicy::read(const std::vector<HeaderField>& headers) const {
  switch (family_) {
    case ForwardedFamily::off:
      break;
    case ForwardedFamily::x_forwarded:
      return read_x_forwarded(headers);
    case ForwardedFamily::rfc7239:
      return read_rfc7239(headers);
  }
  return {};
}

ForwardedPolicy::Claim ForwardedPolicy::read_x_forwarded(
    const std::vector<HeaderField>& headers) const {
  Claim claim;
  ClientWalk walk(*this);
  for (auto field = headers.rbegin(); field != headers.rend(); ++field) {
    if (field->name.size() < 15 || !field->name.starts_with("x-forwarded-")) continue;
    const std::string_view what = field->name.substr(12);
    if (what == "for") {
      std::string_view list = field->value;
      while (!walk.ended()) {
        const std::string_view node = take_last_element(list);
        if (node.empty()) break;
        walk.step(node);
      }
    } else if (what == "proto" && claim.scheme.empty()) {
      claim.scheme = known_scheme(last_element(field->value));
    } else if (what == "host" && trust_host_ && claim.host.empty()) {
      const std::string_view host = last_element(field->value);
      if (is_host(host)) claim.host = host;
    } else if (what == "port" && trust_port_ && claim.port == 0) {
      claim.port = to_port(last_element(field->value));
    }
  }
  claim.client = walk.take();
  return claim;
}

ForwardedPolicy::Claim ForwardedPolicy::read_rfc7239(
    const std::vector<HeaderField>& headers) const {
  Claim claim;
  ClientWalk walk(*this);
  bool nearest = true;
  for (auto field = headers.rbegin(); field != headers.rend(); ++field) {
    if (field->name != "forwarded") continue;
    std::string_view list = field->value;
    while (!list.empty() && !walk.ended()) {
      std::string_view element = take_last(list, ',');
      if (element.empty()) continue;
      std::string_view node = "unknown";
      std::string_view scheme;
      std::string_view host;
      while (!element.empty()) {
        const std::string_view pair = take_last(element, ';');
        const std::size_t equals = pair.find('=');
        if (equals == std::string_view::npos) continue;
        const std::string_view value = unquote(pair.substr(equals + 1));
        const std::string_view name = pair.substr(0, equals);
        if (equals_ignoring_case(name, "for")) node = value;
        if (equals_ignoring_case(name, "proto")) scheme = known_scheme(value);
        if (trust_host_ && equals_ignoring_case(name, "host") && is_host(value)) host = value;
      }
      // How the client came is told where it is named; a nearest proxy that hides it tells too.
      if (walk.step(node) || nearest) {
        claim.scheme = scheme;
        claim.host = host;
      }
      nearest = false;
    }
  }
  claim.client = walk.take();
  return claim;
}

}  // namespace mgr::server
