#include "manager/supervisor/listeners.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/net/tcp_socket.h"
#include "common/net/unix_diag.h"
#include "common/net/unix_socket.h"

namespace mgr::manager {
namespace {

// How long an address that leaves is still accepted on: handshakes that have begun, whose packets
// may be sent again after a second, shall come to their end.
constexpr std::chrono::milliseconds kLeaving{3000};
// Even if its queue is not empty.
constexpr std::chrono::milliseconds kLongestLeaving{30'000};

void switch_on(int fd, int level, int option) {
  const int on = 1;
  ::setsockopt(fd, level, option, &on, sizeof on);
}

// The kernel's number for a queue: for a listening TCP socket, tcpi_unacked is its length.
int queue_length(int fd, int family) {
  if (family == AF_UNIX) {
    const auto found = net::diagnose_unix(fd);
    return found ? found->queued : -1;
  }
  tcp_info info{};
  socklen_t length = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return -1;
  return static_cast<int>(info.tcpi_unacked);
}

// In the filter of a listening socket the packet begins with its TCP header (RFC 9293): what has
// the flag SYN, and would begin a connection, is dropped, and its client asks again a second later.
bool drop_handshakes(int fd) {
  constexpr std::uint32_t kFlags = 13;
  constexpr std::uint32_t kSyn = 0x02;
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kFlags),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kSyn, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
  };
  const sock_fprog filter{static_cast<unsigned short>(std::size(program)), program};
  return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0;
}

void allow_handshakes(int fd) {
  const int unused = 0;
  ::setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
}

bool is_any_host(const std::string& address) {
  return address.starts_with("0.0.0.0:") || address.starts_with("[::]:");
}

int port_of(int fd) {
  const auto bound = net::bound_to(fd);
  return bound ? net::port_of(*bound) : 0;
}

}  // namespace

Listeners::~Listeners() {
  close();
}

void Listeners::close() {
  for (auto& address : addresses_) {
    if (address.stored) address.unix_path.clear();  // it goes on without this process
    close(address);
  }
  addresses_.clear();
  infos_.clear();
  listening_ = false;
}

void Listeners::close(Address& address) {
  if (!address.unix_path.empty()) ::unlink(address.unix_path.c_str());
  address.unix_path.clear();
  address.sockets.clear();
}

Result<void> Listeners::open(const std::vector<net::BindAddress>& addresses,
                             std::vector<UniqueFd> inherited, int slots) {
  slots_ = slots;
  for (auto& fd : inherited) {
    if (auto adopted = adopt(std::move(fd), ""); !adopted) return adopted;
  }
  for (const auto& wanted : addresses) {
    if (auto opened = open_one(wanted); !opened) return opened;
  }
  forget_offered();
  return {};
}

Result<void> Listeners::open_one(const net::BindAddress& wanted) {
  Result<void> opened;
  switch (wanted.kind) {
    case net::BindAddress::Kind::tcp:
      opened = open_tcp(wanted);
      break;
    case net::BindAddress::Kind::unix_path:
    case net::BindAddress::Kind::unix_abstract:
      opened = open_unix(wanted);
      break;
    case net::BindAddress::Kind::fd: {
      UniqueFd copy(::fcntl(wanted.fd, F_DUPFD_CLOEXEC, 3));
      opened =
          copy ? adopt(std::move(copy), wanted.text) : Error::from_errno("not an open descriptor");
      break;
    }
  }
  if (!opened) return std::move(opened).error().with("bind " + wanted.text);
  return {};
}

Result<void> Listeners::open_tcp(const net::BindAddress& wanted) {
  const bool any = wanted.host.empty() || is_any_host(wanted.text);
  const bool ours = std::any_of(addresses_.begin(), addresses_.end(), [&](const Address& address) {
    return wanted.port > 0 && port_of(address.sockets.front().fd.get()) == wanted.port &&
           (any || is_any_host(address.text));
  });
  const net::Beside beside = ours && listening_ ? net::Beside::yes : net::Beside::no;
  auto groups = take_offered(wanted.text);
  if (groups.empty()) {
    auto bound = net::bind_tcp(wanted, beside);
    if (!bound) return std::move(bound).error();
    for (auto& fd : *bound) {
      groups.emplace_back();
      groups.back().push_back(std::move(fd));
    }
  }
  for (std::size_t group = 0; group < groups.size(); ++group) {
    auto added = add_tcp(std::move(groups[group]), wanted.text, group);
    if (!added) return added;
  }
  return {};
}

// `sockets` become those of the first slots of an address, and get a sibling for each other slot.
Result<void> Listeners::add_tcp(std::vector<UniqueFd> sockets, const std::string& wanted,
                                std::size_t group) {
  auto bound = net::bound_to(sockets.front().get());
  if (!bound) return std::move(bound).error();
  Address address;
  address.wanted = wanted;
  address.text = net::format_address(*bound);
  for (const auto& other : addresses_) {
    if (other.text != address.text) continue;
    return Error(fmt::format("{} is open already, for '{}'", other.text, other.wanted), EADDRINUSE);
  }
  address.family = bound->ss_family;
  address.shared = options_.share;
  address.stored_as = stored_as(wanted);
  address.group = group;
  if (!address.shared) switch_on(sockets.front().get(), SOL_SOCKET, SO_REUSEPORT);
  int slot = 0;
  for (auto& fd : sockets) add(address, slot++, std::move(fd));
  if (address.shared) {
    share(address);
  } else {
    for (; slot < slots_; ++slot) {
      auto more = sibling(address);
      if (!more) return std::move(more).error();
      add(address, slot, std::move(*more));
    }
  }
  addresses_.push_back(std::move(address));
  refresh();
  return {};
}

// Another socket of the same address, for the next slot.
Result<UniqueFd> Listeners::sibling(const Address& address) const {
  const int first = address.sockets.front().fd.get();
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(first, reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
    return Error::from_errno(address.text);
  }
  UniqueFd fd(::socket(address.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::from_errno(address.text + ": socket");
  switch_on(fd.get(), SOL_SOCKET, SO_REUSEADDR);
  switch_on(fd.get(), SOL_SOCKET, SO_REUSEPORT);
  switch_on(fd.get(), IPPROTO_TCP, TCP_NODELAY);
  if (address.family == AF_INET6) {
    int only = 0;
    socklen_t size = sizeof only;
    ::getsockopt(first, IPPROTO_IPV6, IPV6_V6ONLY, &only, &size);
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, size);
  }
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0) {
    return Error::from_errno("bind " + address.text);
  }
  return fd;
}

Result<void> Listeners::open_unix(const net::BindAddress& wanted) {
  const bool abstract = wanted.kind == net::BindAddress::Kind::unix_abstract;
  const net::UnixSocketOptions options{
      .mode = options_.socket_mode, .group = options_.socket_group, .backlog = 0};
  UniqueFd fd = take_offered_unix(wanted);
  if (fd && !abstract) {
    if (auto dressed = net::dress_unix_socket(wanted.path, options); !dressed) return dressed;
  }
  if (!fd) {
    auto bound = net::bind_unix_socket(abstract ? "@" + wanted.path : wanted.path, options);
    if (!bound) return std::move(bound).error();
    fd = std::move(*bound);
  }
  Address address;
  address.wanted = address.text = wanted.text;
  address.family = AF_UNIX;
  address.shared = true;
  if (!abstract) address.unix_path = wanted.path;
  address.stored_as = stored_as(wanted.text);
  add(address, -1, std::move(fd));
  addresses_.push_back(std::move(address));
  refresh();
  return {};
}

// A socket that somebody else has bound: it cannot get siblings, so all workers share it.
Result<void> Listeners::adopt(UniqueFd fd, const std::string& wanted) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
    return Error::from_errno("inherited descriptor");
  }
  if (type != SOCK_STREAM) return Error("inherited descriptor: not a stream socket");
  const int flags = ::fcntl(fd.get(), F_GETFL);
  ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK);
  auto bound = net::bound_to(fd.get());
  if (!bound) return std::move(bound).error();
  Address address;
  address.wanted = wanted;
  address.text = net::format_address(*bound);
  address.family = bound->ss_family;
  address.shared = address.inherited = true;
  add(address, -1, std::move(fd));
  addresses_.push_back(std::move(address));
  refresh();
  return {};
}

void Listeners::add(Address& address, int slot, UniqueFd fd) {
  address.sockets.push_back(Socket{next_id_++, slot, std::move(fd)});
}

// Workers are given nothing that only prepare() has made.
void Listeners::refresh() {
  infos_.clear();
  for (const auto& address : addresses_) {
    if (address.state == AddressState::prepared) continue;
    for (const auto& socket : address.sockets) infos_.push_back(SocketInfo{socket.id, socket.slot});
  }
}

bool Listeners::has_inherited() const {
  return std::any_of(addresses_.begin(), addresses_.end(),
                     [](const Address& address) { return address.wanted.empty(); });
}

bool Listeners::grows(const Address& address) {
  return !address.shared && address.state != AddressState::leaving;
}

int Listeners::sockets_of_slot() const {
  return static_cast<int>(std::count_if(addresses_.begin(), addresses_.end(), grows));
}

Result<void> Listeners::ensure_slots(int count) {
  for (auto& address : addresses_) {
    if (!grows(address)) continue;
    for (int slot = static_cast<int>(address.sockets.size()); slot < count; ++slot) {
      auto fd = sibling(address);
      if (!fd) return std::move(fd).error();
      // The steering program in force does not know the new socket yet: it gets nothing.
      const bool listens = listening_ && address.state == AddressState::open;
      if (listens && !net::listen(fd->get(), options_.backlog)) {
        return Error::from_errno("listen " + address.text);
      }
      add(address, slot, std::move(*fd));
      if (listens) store(address, address.sockets.back());
    }
  }
  slots_ = std::max(slots_, count);
  refresh();
  return {};
}

Result<void> Listeners::start() {
  for (auto& address : addresses_) {
    if (auto listened = listen(address); !listened) return listened;
  }
  listening_ = true;
  refresh();
  for (auto& address : addresses_) store(address);
  for (const auto& address : addresses_) log_.info("listening on {}", address.text);
  return {};
}

Result<void> Listeners::listen(Address& address) {
  for (std::size_t i = 0; i < address.sockets.size(); ++i) {
    if (!net::listen(address.sockets[i].fd.get(), options_.backlog)) {
      return Error::from_errno("bind " + address.text);
    }
    // Attached as soon as the group exists, which is when its first socket listens.
    if (i > 0 || address.shared) continue;
    if (!steer(address, {0})) {
      log_.warning(
          "{}: the kernel does not steer connections between sockets ({}); all workers "
          "share one socket",
          address.text, std::strerror(errno));
      share(address);
      break;
    }
  }
  return {};
}

void Listeners::share(Address& address) {
  address.shared = true;
  for (std::size_t i = 1; i < address.sockets.size(); ++i) forget(address, address.sockets[i]);
  address.sockets.resize(1);
  address.sockets.front().slot = -1;
}

// ---- a change of addresses

Result<void> Listeners::prepare(const std::vector<net::BindAddress>& addresses) {
  abandon();
  for (auto& address : addresses_) address.keep = address.wanted.empty();
  for (const auto& wanted : addresses) {
    bool known = false;
    for (auto& address : addresses_) {
      // A Unix path that leaves is gone already.
      const bool gone = address.state == AddressState::leaving && address.family == AF_UNIX;
      if (address.wanted != wanted.text || gone) continue;
      address.keep = known = true;
    }
    if (known) continue;
    if (wanted.kind == net::BindAddress::Kind::fd) {
      abandon();
      return Error("bind " + wanted.text + ": descriptors are inherited at the start alone");
    }
    const std::size_t before = addresses_.size();
    auto opened = open_one(wanted);
    for (std::size_t i = before; i < addresses_.size(); ++i) {
      addresses_[i].state = AddressState::prepared;
    }
    refresh();
    if (!opened) {
      abandon();
      return opened;
    }
  }
  return {};
}

void Listeners::abandon() {
  for (auto& address : addresses_) {
    if (address.state == AddressState::prepared) close(address);
    address.keep = address.state == AddressState::open;
  }
  std::erase_if(addresses_, [](const Address& address) { return address.sockets.empty(); });
  refresh();
}

void Listeners::commit(std::chrono::milliseconds now) {
  for (auto& address : addresses_) {
    if (address.state == AddressState::prepared) {
      address.state = AddressState::open;
      auto listened = listening_ ? listen(address) : Result<void>();
      if (!listened) {
        log_.error("{}", listened.error().message());
        close(address);
        continue;
      }
      if (!address.shared) steer(address, active_);
      store(address);
      log_.info("listening on {}", address.text);
    } else if (address.state == AddressState::leaving && address.keep) {
      come_back(address);
      store(address);
      log_.info("listening on {} again", address.text);
    }
  }
  std::erase_if(addresses_, [](const Address& address) { return address.sockets.empty(); });
  for (auto& address : addresses_) {
    const Address* other = address.keep ? nullptr : including(address);
    if (address.state == AddressState::leaving && other) come_back(address);
    if (address.state != AddressState::open) continue;
    const bool before = std::exchange(address.included, other != nullptr);
    if (!address.keep && !other) {
      leave(address, now);
    } else if (!before && other) {
      log_.info("{} stays open: {} includes it", address.text, other->text);
      forget(address);
    } else if (before && !other) {
      log_.info("listening on {}", address.text);
      store(address);
    }
  }
  refresh();
}

void Listeners::come_back(Address& address) {
  address.state = AddressState::open;
  for (const auto& socket : address.sockets) allow_handshakes(socket.fd.get());
  if (!address.shared) steer(address, active_);
}

// The address that `bind` names and by which the clients of this one are meant too.
const Listeners::Address* Listeners::including(const Address& address) const {
  if (address.family == AF_UNIX || address.inherited) return nullptr;
  const int port = port_of(address.sockets.front().fd.get());
  const auto found = std::find_if(addresses_.begin(), addresses_.end(), [&](const Address& other) {
    return other.state == AddressState::open && other.keep && other.family == address.family &&
           is_any_host(other.text) && port_of(other.sockets.front().fd.get()) == port;
  });
  return found == addresses_.end() ? nullptr : &*found;
}

void Listeners::leave(Address& address, std::chrono::milliseconds now) {
  log_.info("{}: no new connections; those that wait are still accepted", address.text);
  address.state = AddressState::leaving;
  address.left_at = now;
  forget(address);
  if (!address.unix_path.empty()) ::unlink(address.unix_path.c_str());
  address.unix_path.clear();
  if (address.family == AF_UNIX || address.inherited) return;
  for (const auto& socket : address.sockets) drop_handshakes(socket.fd.get());
}

bool Listeners::leaving() const {
  return std::any_of(addresses_.begin(), addresses_.end(),
                     [](const Address& address) { return address.state == AddressState::leaving; });
}

bool Listeners::may_close(const Address& address, std::chrono::milliseconds now) const {
  const auto since = now - address.left_at;
  if (address.keep || since < kLeaving) return false;
  if (since >= kLongestLeaving) return true;
  return std::all_of(address.sockets.begin(), address.sockets.end(), [&](const Socket& socket) {
    return queue_length(socket.fd.get(), address.family) <= 0;
  });
}

bool Listeners::close_left(std::chrono::milliseconds now) {
  for (auto& address : addresses_) {
    if (address.state != AddressState::leaving || !may_close(address, now)) continue;
    log_.info("{} is closed", address.text);
    close(address);
  }
  std::erase_if(addresses_, [](const Address& address) { return address.sockets.empty(); });
  refresh();
  return leaving();
}

// ---- steering

void Listeners::set_active(const std::vector<int>& slots) {
  if (!listening_) return;
  active_ = slots;
  for (const auto& address : addresses_) {
    if (address.shared || address.state == AddressState::prepared) continue;
    if (!steer(address, slots)) {
      log_.error(
          "{}: connections could not be steered anew ({}); parked queues are served by other "
          "workers",
          address.text, std::strerror(errno));
    }
  }
}

// A program of classic BPF for the whole group: a random number modulo the count of active slots,
// mapped to the slot's index, which is the order of listen(). No slot: any socket.
bool Listeners::steer(const Address& address, const std::vector<int>& slots) const {
  std::vector<int> targets = slots;
  if (targets.empty()) {
    for (int i = 0; i < static_cast<int>(address.sockets.size()); ++i) targets.push_back(i);
  }
  const auto count = static_cast<std::uint32_t>(targets.size());
  std::vector<sock_filter> program;
  program.push_back(
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)));
  program.push_back(BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, count));
  const bool identity = targets.back() == static_cast<int>(count) - 1;  // targets are sorted
  if (!identity) {
    for (std::uint32_t i = 0; i < count; ++i) {
      program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, i, 0, 1));
      program.push_back(BPF_STMT(BPF_RET | BPF_K, static_cast<std::uint32_t>(targets[i])));
    }
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_A, 0));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  const int fd = address.sockets.front().fd.get();
  return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &filter, sizeof filter) == 0;
}

const Listeners::Address* Listeners::address_of(SocketId id) const {
  for (const auto& address : addresses_) {
    for (const auto& socket : address.sockets) {
      if (socket.id == id) return &address;
    }
  }
  return nullptr;
}

const Listeners::Socket* Listeners::find(SocketId id) const {
  const Address* address = address_of(id);
  if (!address) return nullptr;
  return &*std::find_if(address->sockets.begin(), address->sockets.end(),
                        [&](const Socket& socket) { return socket.id == id; });
}

int Listeners::fd(SocketId id) const {
  const Socket* socket = find(id);
  return socket ? socket->fd.get() : -1;
}

const std::string& Listeners::address(SocketId id) const {
  const Address* address = address_of(id);
  CHECK(address);
  return address->text;
}

bool Listeners::shared(SocketId id) const {
  const Address* address = address_of(id);
  CHECK(address);
  return address->shared;
}

int Listeners::queued_on(SocketId id) const {
  const Address* address = address_of(id);
  return address && listening_ ? queue_length(find(id)->fd.get(), address->family) : -1;
}

int Listeners::waiting_on(const Address& address) const {
  int queued = 0;
  for (const auto& socket : address.sockets) {
    const int length = listening_ ? queue_length(socket.fd.get(), address.family) : 0;
    if (length < 0) return -1;
    queued += length;
  }
  return queued;
}

std::vector<Listeners::State> Listeners::states() const {
  std::vector<State> states;
  for (const auto& address : addresses_) {
    if (address.state != AddressState::open || address.included) continue;
    int queued = waiting_on(address);
    for (const auto& other : addresses_) {
      if (!other.included || including(other) != &address || queued < 0) continue;
      const int more = waiting_on(other);
      queued = more < 0 ? -1 : queued + more;
    }
    states.push_back({address.text, address.shared ? "shared" : "random", queued});
  }
  return states;
}

}  // namespace mgr::manager
