// Listening sockets in the service manager's descriptor store: they outlive the process, with the
// connections that wait in their queues.

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <map>

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

// What is in the store and belongs to no address any more.
void Listeners::forget_offered() {
  for (const auto& one : offered_) {
    if (store_.forget) store_.forget(one.name);
  }
  offered_.clear();
}

// The only socket of a shared address is kept as that of slot 0.
void Listeners::store(const Address& address, const Socket& socket) {
  if (!store_.keep || address.stored_as.empty()) return;
  const StoredName name{std::max(socket.slot, 0), address.group, address.stored_as};
  if (name.text().size() <= kLongestName) store_.keep(name.text(), socket.fd.get());
}

void Listeners::forget(const Address& address, const Socket& socket) {
  if (!store_.forget || address.stored_as.empty()) return;
  store_.forget(StoredName{std::max(socket.slot, 0), address.group, address.stored_as}.text());
}

void Listeners::store(const Address& address) {
  for (const auto& socket : address.sockets) store(address, socket);
}

void Listeners::forget(const Address& address) {
  for (const auto& socket : address.sockets) forget(address, socket);
}

std::string Listeners::stored_as(const std::string& bind) {
  return encoded(bind);
}

}  // namespace mgr::manager
