// Listening sockets in the service manager's descriptor store: they outlive the process, with the
// connections that wait in their queues.

#include <fmt/core.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "common/net/unix_diag.h"
#include "manager/supervisor/listeners.h"

namespace mgr::manager {
namespace {

// A name has printable characters without a colon, 255 at most (sd_pid_notify_with_fds(3)).
constexpr std::size_t kLongestName = 255;

std::string encoded(const std::string& text) {
  std::string name;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = byte > 0x20 && byte < 0x7f && c != ':' && c != '%';
    name += plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return name;
}

// "mgr-3-0-127.0.0.1%3A8000": slot 3 of the first address that this entry of `bind` means.
struct StoredName {
  int slot = 0;
  std::size_t group = 0;
  std::string bind;  // encoded

  std::string text() const { return fmt::format("{}{}-{}-{}", kStoredPrefix, slot, group, bind); }
  static std::optional<StoredName> parse(std::string_view text);
};

// What encoded() was given; nothing else is read.
std::string decoded(std::string_view name) {
  std::string text;
  for (std::size_t i = 0; i < name.size(); ++i) {
    unsigned byte = 0;
    const auto escape = name.substr(i, 3);
    if (escape[0] == '%' && escape.size() == 3 &&
        std::from_chars(escape.data() + 1, escape.data() + 3, byte, 16).ptr == escape.data() + 3) {
      text += static_cast<char>(byte);
      i += 2;
    } else {
      text += escape[0];
    }
  }
  return text;
}

// A Unix socket that nobody will accept from refuses whoever connects, though the service manager
// may hold it for another moment, and its path is gone.
void retire_unix(const InheritedSockets::Socket& one, const std::string& bind) {
  int family = 0;
  socklen_t size = sizeof family;
  ::getsockopt(one.fd.get(), SOL_SOCKET, SO_DOMAIN, &family, &size);
  if (family != AF_UNIX) return;
  ::shutdown(one.fd.get(), SHUT_RDWR);
  const auto address = net::parse_bind_address(bind);
  if (!address || address->kind != net::BindAddress::Kind::unix_path) return;
  if (net::is_bound_to(one.fd.get(), address->path) == true) ::unlink(address->path.c_str());
}

std::optional<StoredName> StoredName::parse(std::string_view text) {
  StoredName name;
  const char* const end = text.data() + text.size();
  const auto slot =
      std::from_chars(text.data() + std::string_view(kStoredPrefix).size(), end, name.slot);
  if (slot.ec != std::errc{} || slot.ptr == end || *slot.ptr != '-') return {};
  const auto group = std::from_chars(slot.ptr + 1, end, name.group);
  if (group.ec != std::errc{} || group.ptr == end || *group.ptr != '-') return {};
  name.bind.assign(group.ptr + 1, end);
  return name;
}

}  // namespace

void Listeners::offer(std::vector<InheritedSockets::Socket> stored) {
  offered_ = std::move(stored);
}

// The sockets of each address that `bind` meant last time, by slot: as many as there are without a
// gap, since their order is that of the kernel's group.
std::vector<std::vector<UniqueFd>> Listeners::take_offered(const std::string& bind) {
  std::map<std::size_t, std::map<int, InheritedSockets::Socket>> found;
  const std::string wanted = encoded(bind);
  std::vector<InheritedSockets::Socket> rest;
  for (auto& one : offered_) {
    const auto name = StoredName::parse(one.name);
    auto& place =
        name && name->bind == wanted ? found[name->group][name->slot] : rest.emplace_back();
    place = std::move(one);
  }
  std::vector<std::vector<UniqueFd>> groups;
  for (auto& [index, by_slot] : found) {
    std::vector<UniqueFd> group;
    for (auto& [slot, one] : by_slot) {
      if (slot == static_cast<int>(group.size())) {
        group.push_back(std::move(one.fd));
      } else {
        rest.push_back(std::move(one));
      }
    }
    if (!group.empty()) groups.push_back(std::move(group));
  }
  offered_ = std::move(rest);
  return groups;
}

// One whose path leads elsewhere by now, or nowhere, is of no use.
UniqueFd Listeners::take_offered_unix(const net::BindAddress& wanted) {
  auto groups = take_offered(wanted.text);
  if (groups.empty()) return {};
  UniqueFd fd = std::move(groups.front().front());
  const bool path = wanted.kind == net::BindAddress::Kind::unix_path;
  if (!path || net::is_bound_to(fd.get(), wanted.path).value_or(true)) return fd;
  ::shutdown(fd.get(), SHUT_RDWR);
  if (store_.forget) store_.forget(StoredName{0, 0, stored_as(wanted.text)}.text());
  return {};
}

// What is in the store and belongs to no address any more.
void Listeners::forget_offered() {
  for (const auto& one : offered_) {
    if (const auto name = StoredName::parse(one.name)) retire_unix(one, decoded(name->bind));
    if (store_.forget) store_.forget(one.name);
  }
  offered_.clear();
}

// The only socket of a shared address is kept as that of slot 0.
void Listeners::store(Address& address, const Socket& socket) {
  if (!store_.keep || address.stored_as.empty()) return;
  const StoredName name{std::max(socket.slot, 0), address.group, address.stored_as};
  if (name.text().size() > kLongestName) return;
  if (store_.keep(name.text(), socket.fd.get())) address.stored = true;
}

void Listeners::forget(const Address& address, const Socket& socket) {
  if (!store_.forget || address.stored_as.empty()) return;
  store_.forget(StoredName{std::max(socket.slot, 0), address.group, address.stored_as}.text());
}

void Listeners::store(Address& address) {
  for (const auto& socket : address.sockets) store(address, socket);
}

void Listeners::forget(Address& address) {
  for (const auto& socket : address.sockets) forget(address, socket);
  address.stored = false;
}

std::string Listeners::stored_as(const std::string& bind) {
  return encoded(bind);
}

}  // namespace mgr::manager
