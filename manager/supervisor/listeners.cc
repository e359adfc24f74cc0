#include "manager/supervisor/listeners.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "common/net/tcp_socket.h"
#include "common/net/unix_socket.h"

namespace mgr::manager {
namespace {

void switch_on(int fd, int level, int option) {
  const int on = 1;
  ::setsockopt(fd, level, option, &on, sizeof on);
}

// How many connections wait on a listening Unix socket, from the kernel's socket diagnosis
// (sock_diag(7)); -1 where it does not answer.
int queued_on_unix(int fd) {
  struct stat info {};
  const UniqueFd netlink(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink || ::fstat(fd, &info) != 0) return -1;
  struct {
    nlmsghdr header;
    unix_diag_req request;
  } question{};
  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.header.nlmsg_flags = NLM_F_REQUEST;
  question.request.sdiag_family = AF_UNIX;
  question.request.udiag_states = ~0u;
  question.request.udiag_ino = static_cast<std::uint32_t>(info.st_ino);
  question.request.udiag_show = UDIAG_SHOW_RQLEN;
  question.request.udiag_cookie[0] = question.request.udiag_cookie[1] = ~0u;
  if (::send(netlink.get(), &question, sizeof question, 0) < 0) return -1;
  alignas(nlmsghdr) char answer[512];
  const ssize_t length = ::recv(netlink.get(), answer, sizeof answer, MSG_DONTWAIT);
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
  if (length < 0 || !NLMSG_OK(header, static_cast<unsigned>(length)) ||
      header->nlmsg_type != SOCK_DIAG_BY_FAMILY) {
    return -1;
  }
  auto left = static_cast<int>(header->nlmsg_len - NLMSG_LENGTH(sizeof(unix_diag_msg)));
  const auto* attribute = reinterpret_cast<const rtattr*>(
      static_cast<const char*>(NLMSG_DATA(header)) + NLMSG_ALIGN(sizeof(unix_diag_msg)));
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type != UNIX_DIAG_RQLEN) continue;
    unix_diag_rqlen queue{};
    std::memcpy(&queue, RTA_DATA(attribute), sizeof queue);
    return static_cast<int>(queue.udiag_rqueue);
  }
  return -1;
}

// The kernel's number for a queue: for a listening TCP socket, tcpi_unacked is its length.
int queue_length(int fd, int family) {
  if (family == AF_UNIX) return queued_on_unix(fd);
  tcp_info info{};
  socklen_t length = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return -1;
  return static_cast<int>(info.tcpi_unacked);
}

}  // namespace

Listeners::~Listeners() {
  close();
}

void Listeners::close() {
  for (const auto& address : addresses_) {
    if (!address.unix_path.empty()) ::unlink(address.unix_path.c_str());
  }
  addresses_.clear();
  sockets_.clear();
  infos_.clear();
  listening_ = false;
}

Result<void> Listeners::open(const std::vector<net::BindAddress>& addresses,
                             std::vector<UniqueFd> inherited, int slots) {
  slots_ = slots;
  for (auto& fd : inherited) {
    if (auto adopted = adopt(std::move(fd)); !adopted) return adopted;
  }
  for (const auto& wanted : addresses) {
    Result<void> opened;
    switch (wanted.kind) {
      case net::BindAddress::Kind::tcp:
        opened = open_tcp(wanted, slots);
        break;
      case net::BindAddress::Kind::unix_path:
      case net::BindAddress::Kind::unix_abstract:
        opened = open_unix(wanted);
        break;
      case net::BindAddress::Kind::fd: {
        UniqueFd copy(::fcntl(wanted.fd, F_DUPFD_CLOEXEC, 3));
        opened = copy ? adopt(std::move(copy)) : Error::from_errno("not an open descriptor");
        break;
      }
    }
    if (!opened) return std::move(opened).error().with("bind " + wanted.text);
  }
  forget_offered();
  return {};
}

Result<void> Listeners::open_tcp(const net::BindAddress& wanted, int slots) {
  auto groups = take_offered(wanted.text);
  if (groups.empty()) {
    auto bound = net::bind_tcp(wanted);
    if (!bound) return std::move(bound).error();
    for (auto& fd : *bound) {
      groups.emplace_back();
      groups.back().push_back(std::move(fd));
    }
  }
  for (std::size_t group = 0; group < groups.size(); ++group) {
    if (auto added = add_group(std::move(groups[group]), slots); !added) return added;
    addresses_.back().stored_as = stored_as(wanted.text);
    addresses_.back().group = group;
  }
  return {};
}

// `sockets` become those of the first slots of an address, and get a sibling for each other slot.
Result<void> Listeners::add_group(std::vector<UniqueFd> sockets, int slots) {
  const int first = sockets.front().get();
  switch_on(first, SOL_SOCKET, SO_REUSEPORT);
  auto bound = net::bound_to(first);
  if (!bound) return std::move(bound).error();
  Address address;
  address.text = net::format_address(*bound);
  address.family = bound->ss_family;
  addresses_.push_back(std::move(address));
  int slot = 0;
  for (auto& fd : sockets) add(addresses_.size() - 1, slot++, std::move(fd));
  for (; slot < slots; ++slot) {
    auto more = sibling(addresses_.back());
    if (!more) return std::move(more).error();
    add(addresses_.size() - 1, slot, std::move(*more));
  }
  return {};
}

// Another socket of the same address, for the next slot.
Result<UniqueFd> Listeners::sibling(const Address& address) const {
  const int first = sockets_[address.sockets.front()].fd.get();
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(first, reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
    return Error::from_errno(address.text);
  }
  UniqueFd fd(::socket(address.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::from_errno(address.text + ": socket");
  switch_on(fd.get(), SOL_SOCKET, SO_REUSEADDR);
  switch_on(fd.get(), SOL_SOCKET, SO_REUSEPORT);
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
  auto fd = net::bind_unix_socket(
      abstract ? "@" + wanted.path : wanted.path,
      {.mode = options_.socket_mode, .group = options_.socket_group, .backlog = 0});
  if (!fd) return std::move(fd).error();
  Address address;
  address.text = wanted.text;
  address.family = AF_UNIX;
  address.shared = true;
  if (!abstract) address.unix_path = wanted.path;
  addresses_.push_back(std::move(address));
  add(addresses_.size() - 1, -1, std::move(*fd));
  return {};
}

// A socket that somebody else has bound: it cannot get siblings, so all workers share it.
Result<void> Listeners::adopt(UniqueFd fd) {
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
  address.text = net::format_address(*bound);
  address.family = bound->ss_family;
  address.shared = true;
  addresses_.push_back(std::move(address));
  add(addresses_.size() - 1, -1, std::move(fd));
  return {};
}

void Listeners::add(std::size_t address, int slot, UniqueFd fd) {
  addresses_[address].sockets.push_back(sockets_.size());
  sockets_.push_back(Socket{next_id_++, address, slot, std::move(fd)});
  refresh();
}

void Listeners::refresh() {
  infos_.clear();
  for (const auto& socket : sockets_) {
    if (socket.fd) infos_.push_back(SocketInfo{socket.id, socket.slot});
  }
}

Result<void> Listeners::ensure_slots(int count) {
  for (std::size_t i = 0; i < addresses_.size(); ++i) {
    if (addresses_[i].shared) continue;
    for (int slot = static_cast<int>(addresses_[i].sockets.size()); slot < count; ++slot) {
      auto fd = sibling(addresses_[i]);
      if (!fd) return std::move(fd).error();
      // The steering program in force does not know the new socket yet: it gets nothing.
      if (listening_ && ::listen(fd->get(), options_.backlog) != 0) {
        return Error::from_errno("listen " + addresses_[i].text);
      }
      add(i, slot, std::move(*fd));
      if (listening_) store(sockets_.back());
    }
  }
  slots_ = std::max(slots_, count);
  return {};
}

Result<void> Listeners::start() {
  for (auto& address : addresses_) {
    for (std::size_t i = 0; i < address.sockets.size(); ++i) {
      if (::listen(sockets_[address.sockets[i]].fd.get(), options_.backlog) != 0) {
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
  }
  listening_ = true;
  for (const auto& socket : sockets_) {
    if (socket.fd) store(socket);
  }
  for (const auto& address : addresses_) log_.info("listening on {}", address.text);
  return {};
}

void Listeners::share(Address& address) {
  address.shared = true;
  for (std::size_t i = 1; i < address.sockets.size(); ++i) {
    forget(sockets_[address.sockets[i]]);
    sockets_[address.sockets[i]].fd.reset();
  }
  address.sockets.resize(1);
  sockets_[address.sockets.front()].slot = -1;
  refresh();
}

void Listeners::set_active(const std::vector<int>& slots) {
  if (!listening_) return;
  for (const auto& address : addresses_) {
    if (address.shared) continue;
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
  const int fd = sockets_[address.sockets.front()].fd.get();
  return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &filter, sizeof filter) == 0;
}

const Listeners::Socket* Listeners::find(SocketId id) const {
  const auto it = std::find_if(sockets_.begin(), sockets_.end(),
                               [&](const Socket& socket) { return socket.id == id && socket.fd; });
  return it == sockets_.end() ? nullptr : &*it;
}

int Listeners::fd(SocketId id) const {
  const Socket* socket = find(id);
  return socket ? socket->fd.get() : -1;
}

const std::string& Listeners::address(SocketId id) const {
  const Socket* socket = find(id);
  CHECK(socket);
  return addresses_[socket->address].text;
}

bool Listeners::shared(SocketId id) const {
  const Socket* socket = find(id);
  CHECK(socket);
  return addresses_[socket->address].shared;
}

int Listeners::queued_on(SocketId id) const {
  const Socket* socket = find(id);
  if (!socket || !listening_) return -1;
  return queue_length(socket->fd.get(), addresses_[socket->address].family);
}

std::vector<Listeners::State> Listeners::states() const {
  std::vector<State> states;
  for (const auto& address : addresses_) {
    int queued = 0;
    for (const std::size_t index : address.sockets) {
      const int length = listening_ ? queue_length(sockets_[index].fd.get(), address.family) : 0;
      queued = length < 0 ? -1 : queued + length;
      if (queued < 0) break;
    }
    states.push_back({address.text, address.shared ? "shared" : "random", queued});
  }
  return states;
}

}  // namespace mgr::manager
