#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/net/address.h"
#include "manager/supervisor/inherited_sockets.h"
#include "manager/supervisor/world.h"

namespace mgr::manager {

class StateReader;
class StateWriter;

// Every listening socket of the service (design.md section 4). The supervisor makes them and never
// closes one while it serves; workers borrow copies.
//
// A TCP address has one SO_REUSEPORT socket for each slot, steered by a classic BPF program
// ('random over the active slots') that is replaced for the whole group at once. A Unix address and
// an inherited socket have one socket for all workers. Where the kernel refuses to steer, so has
// TCP.
class Listeners {
 public:
  struct Options {
    int backlog = 2048;
    int socket_mode = 0660;
    std::string socket_group;  // a name or a number; empty: unchanged
  };

  Listeners(Options options, Log& log) : options_(std::move(options)), log_(log) {}
  // Removes the paths of Unix sockets that it made.
  ~Listeners();
  Listeners(const Listeners&) = delete;

  // Where copies of the TCP sockets are kept beyond the end of this process, by name. A name that
  // is kept twice is the same socket.
  struct Store {
    std::function<void(const std::string& name, int fd)> keep;
    std::function<void(const std::string& name)> forget;
  };
  void set_store(Store store) { store_ = std::move(store); }
  // What is in the store: open() takes them for the addresses that they had instead of binding
  // those anew, each to its slot, and forgets the rest.
  void offer(std::vector<InheritedSockets::Socket> stored);

  // Binds every address for `slots` slots; nothing listens yet. `inherited`: descriptors passed by
  // systemd (LISTEN_FDS); where there are any, they come first, and a `bind` that is the default is
  // left out by the caller. Errors: `bind 0.0.0.0:80: Permission denied`.
  Result<void> open(const std::vector<net::BindAddress>& addresses, std::vector<UniqueFd> inherited,
                    int slots);
  // Sockets for slots [0, count) that have none; listening at once if the others do.
  Result<void> ensure_slots(int count);
  // listen() on all, and steering; once.
  Result<void> start();
  // Only these slots get new connections; an empty set means all.
  void set_active(const std::vector<int>& slots);
  void close();

  const std::vector<SocketInfo>& sockets() const { return infos_; }
  int fd(SocketId id) const;
  const std::string& address(SocketId id) const;
  bool shared(SocketId id) const;
  // Connections in its queue that no worker has accepted yet; -1: unknown.
  int queued_on(SocketId id) const;

  struct State {
    std::string address;  // as clients reach it: with the real port
    const char* balance;  // "random" or "shared"
    int queued;           // connections that no worker has accepted yet; -1: unknown
  };
  std::vector<State> states() const;

  // The sockets and what is known of them, in the order of listen() (saved_state.h).
  nlohmann::json save(StateWriter& writer) const;
  // Instead of open() and start(): they listen and are steered as they were. After an error it has
  // none, and removes nothing.
  Result<void> restore(const nlohmann::json& saved, const StateReader& reader);

 private:
  struct Address {
    std::string text;
    std::string unix_path;  // to remove at the end; empty: none
    int family = 0;
    std::vector<std::size_t> sockets;  // indexes into sockets_, by slot; one when shared
    bool shared = false;
    net::BindAddress wanted;
    std::string stored_as;  // the entry of `bind`, as the store names it; empty: not stored
    std::size_t group = 0;  // which of the addresses that the entry means
  };
  struct Socket {
    SocketId id;
    std::size_t address;
    int slot;
    UniqueFd fd;
  };

  Result<void> open_tcp(const net::BindAddress& wanted, int slots);
  Result<void> add_group(std::vector<UniqueFd> sockets, int slots);
  // stored_listeners.cc
  std::vector<std::vector<UniqueFd>> take_offered(const std::string& bind);
  void forget_offered();
  void store(const Socket& socket);
  void forget(const Socket& socket);
  static std::string stored_as(const std::string& bind);
  Result<void> open_unix(const net::BindAddress& wanted);
  Result<void> adopt(UniqueFd fd);
  Result<UniqueFd> sibling(const Address& address) const;
  void add(std::size_t address, int slot, UniqueFd fd);
  void refresh();
  bool steer(const Address& address, const std::vector<int>& slots) const;
  void share(Address& address);
  const Socket* find(SocketId id) const;

  Options options_;
  Store store_;
  std::vector<InheritedSockets::Socket> offered_;
  Log& log_;
  std::vector<Address> addresses_;
  std::vector<Socket> sockets_;
  std::vector<SocketInfo> infos_;
  SocketId next_id_ = 1;
  int slots_ = 0;
  bool listening_ = false;
};

}  // namespace mgr::manager
