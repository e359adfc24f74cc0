#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/server/address.h"
#include "common/server/exchange.h"
#include "common/server/server.h"

namespace mgr::server {

// Which peers are believed, and what they say about the client (contract: `forwarded`,
// `trusted_proxies`, `forwarded_trust`). One policy for hosts and log. Only the configured family
// of fields is ever looked at; the other one changes nothing.
class ForwardedPolicy {
 public:
  explicit ForwardedPolicy(const ServerOptions& options);

  // Whether a peer is a trusted proxy; decided once a connection.
  bool trusts_peer(const sockaddr_storage& peer) const;

  // What a trusted proxy said; absent where it said nothing (that is understood).
  struct Claim {
    std::optional<Endpoint> client;
    std::string_view scheme;  // "http", "https" or empty
    std::string_view host;    // when `host` is trusted
    int port = 0;             // when `port` is trusted
  };
  // Only for requests of a trusted peer.
  Claim read(const std::vector<HeaderField>& headers) const;
  bool off() const { return family_ == ForwardedFamily::off; }

 private:
  struct Network {
    IpAddress address;
    int bits;
  };
  class ClientWalk;

  bool trusts(const IpAddress& address) const;
  Claim read_x_forwarded(const std::vector<HeaderField>& headers) const;
  Claim read_rfc7239(const std::vector<HeaderField>& headers) const;

  ForwardedFamily family_;
  bool trust_host_ = false;
  bool trust_port_ = false;
  bool everybody_ = false;
  bool unix_ = false;
  std::vector<Network> networks_;
};

}  // namespace mgr::server
