#pragma once

#include <chrono>
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

// Every listening socket of the service (design.md section 4). The supervisor makes them and closes
// none while it serves, but for an address that `bind` names no more; workers borrow copies.
//
// A TCP address has one SO_REUSEPORT socket for each slot, steered by a classic BPF program
// ('random over the active slots') that is replaced for the whole group at once. A Unix address and
// an inherited socket have one socket for all workers. Where the kernel refuses to steer, or the
// setting `balance` says so, so has TCP.
//
// A change of addresses: prepare() binds the new ones, which refuse connections still; commit()
// lets them listen and the old ones leave, or abandon() closes the new ones. An address that leaves
// lets no new handshake begin (a filter drops SYN; a Unix path is gone), while workers accept what
// has begun; close_left() closes it when its time is over and its queue is empty, so that no
// connection is reset. One that another includes (127.0.0.1:80 in 0.0.0.0:80) has no need to leave,
// and stays as long as the other does: the kernel prefers it, and its clients notice nothing.
class Listeners {
 public:
  struct Options {
    int backlog = 2048;
    int socket_mode = 0660;
    std::string socket_group{};  // a name or a number; empty: unchanged
    bool share = false;          // one socket for all workers, for TCP too
  };

  Listeners(Options options, Log& log) : options_(std::move(options)), log_(log) {}
  // Removes the paths of Unix sockets that it made, but of those that are stored.
  ~Listeners();
  Listeners(const Listeners&) = delete;

  // Where copies of the sockets are kept beyond the end of this process, by name. A name that is
  // kept twice is the same socket. keep() is false where there is no room; the path of a Unix
  // socket that is kept stays when this object ends.
  struct Store {
    std::function<bool(const std::string& name, int fd)> keep;
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
  // Was any descriptor inherited?
  bool has_inherited() const;
  // Binds those of `addresses` that are not open yet. Errors as open()'s; then nothing has changed.
  Result<void> prepare(const std::vector<net::BindAddress>& addresses);
  // After prepare(): its addresses are those that listen. `now`: of the clock that close_left() is
  // given.
  void commit(std::chrono::milliseconds now);
  void abandon();
  // Closes addresses that leave and are done. True while others do not yet.
  bool close_left(std::chrono::milliseconds now);
  // Does any address leave?
  bool leaving() const;
  // How many slots have their sockets, and how many a further one would get.
  int slots() const { return slots_; }
  int sockets_of_slot() const;
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
  // Connections in its queue that no worker has accepted yet; -1: unknown, or it is closed.
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
  struct Socket {
    SocketId id = 0;
    int slot = -1;
    UniqueFd fd;
  };
  enum class AddressState { open, prepared, leaving };
  struct Address {
    std::string wanted;     // as in `bind`; empty: inherited from systemd
    std::string text;       // as clients reach it
    std::string unix_path;  // to remove at the end; empty: none
    int family = 0;
    bool shared = false;
    bool inherited = false;         // somebody else has the same socket
    bool included = false;          // `bind` does not name it, but one that includes it
    std::vector<Socket> sockets{};  // by slot; one when shared
    AddressState state = AddressState::open;
    bool keep = true;  // among those that commit() is to keep
    std::chrono::milliseconds left_at{0};
    std::string stored_as{};  // the entry of `bind`, as the store names it; empty: not stored
    std::size_t group = 0;    // which of the addresses that the entry means
    bool stored = false;      // the store has a socket of it
  };

  // Their addresses are appended.
  Result<void> open_one(const net::BindAddress& wanted);
  Result<void> open_tcp(const net::BindAddress& wanted);
  Result<void> add_tcp(std::vector<UniqueFd> sockets, const std::string& wanted, std::size_t group);
  // stored_listeners.cc
  std::vector<std::vector<UniqueFd>> take_offered(const std::string& bind);
  void forget_offered();
  UniqueFd take_offered_unix(const net::BindAddress& wanted);
  void store(Address& address, const Socket& socket);
  void forget(const Address& address, const Socket& socket);
  void store(Address& address);
  void forget(Address& address);
  static std::string stored_as(const std::string& bind);
  Result<void> open_unix(const net::BindAddress& wanted);
  Result<void> adopt(UniqueFd fd, const std::string& wanted);
  Result<UniqueFd> sibling(const Address& address) const;
  static bool grows(const Address& address);
  Result<void> listen(Address& address);
  void add(Address& address, int slot, UniqueFd fd);
  void refresh();
  bool steer(const Address& address, const std::vector<int>& slots) const;
  void share(Address& address);
  void leave(Address& address, std::chrono::milliseconds now);
  void close(Address& address);
  void come_back(Address& address);
  const Address* including(const Address& address) const;
  int waiting_on(const Address& address) const;  // -1: unknown
  bool may_close(const Address& address, std::chrono::milliseconds now) const;
  const Address* address_of(SocketId id) const;
  const Socket* find(SocketId id) const;

  Options options_;
  Store store_;
  std::vector<InheritedSockets::Socket> offered_;
  Log& log_;
  std::vector<Address> addresses_;
  std::vector<SocketInfo> infos_;
  std::vector<int> active_{0};  // slots that connections are steered to
  SocketId next_id_ = 1;
  int slots_ = 0;
  bool listening_ = false;
};

}  // namespace mgr::manager
