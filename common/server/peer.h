#pragma once

#include <sys/types.h>

#include <cstdint>
#include <utility>

#include "common/server/exchange.h"

namespace mgr::server {

// Who is at the two ends of a connection. Shared by it and its exchanges, which may live longer;
// counted without atomics, since both belong to one thread.
struct Peer {
  Endpoint client;       // the peer of the connection
  Endpoint server;       // the address that it came to
  bool trusted = false;  // a proxy that the forwarding policy believes
  std::int64_t uid = -1;
  std::int64_t gid = -1;
  pid_t pid = -1;

 private:
  friend class PeerRef;
  int references_ = 0;
};

class PeerRef {
 public:
  PeerRef() = default;
  explicit PeerRef(Peer* peer) : peer_(peer) { ++peer_->references_; }
  PeerRef(const PeerRef& other) : peer_(other.peer_) {
    if (peer_) ++peer_->references_;
  }
  PeerRef& operator=(PeerRef other) noexcept {
    std::swap(peer_, other.peer_);
    return *this;
  }
  ~PeerRef() {
    if (peer_ && --peer_->references_ == 0) delete peer_;
  }

  const Peer* operator->() const { return peer_; }
  const Peer& operator*() const { return *peer_; }

 private:
  Peer* peer_ = nullptr;
};

}  // namespace mgr::server
