// The listening sockets, for the program that takes this one's place.

#include <fmt/core.h>
#include <sys/socket.h>

#include "manager/supervisor/listeners.h"
#include "manager/supervisor/saved_state.h"

namespace mgr::manager {
namespace {

using nlohmann::json;

void check_listening(int fd, const std::string& address) {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0) {
    throw Unreadable{fmt::format("{}: descriptor {} is no listening socket", address, fd)};
  }
}

}  // namespace

json Listeners::save(StateWriter& writer) const {
  json addresses = json::array();
  for (const auto& address : addresses_) {
    json sockets = json::array();
    for (const auto& socket : address.sockets) {
      sockets.push_back(
          {{"id", socket.id}, {"slot", socket.slot}, {"fd", writer.keep(socket.fd.get())}});
    }
    addresses.push_back({{"text", address.text},
                         {"unix_path", address.unix_path},
                         {"family", address.family},
                         {"shared", address.shared},
                         {"wanted", address.wanted},
                         {"inherited", address.inherited},
                         {"included", address.included},
                         {"leaving", address.state == AddressState::leaving},
                         {"left_at", address.left_at.count()},
                         {"stored_as", address.stored_as},
                         {"group", address.group},
                         {"stored", address.stored},
                         {"sockets", std::move(sockets)}});
  }
  return {{"next_id", next_id_},
          {"slots", slots_},
          {"active", active_},
          {"addresses", std::move(addresses)}};
}

Result<void> Listeners::restore(const json& saved, const StateReader& reader) {
  CHECK(addresses_.empty());
  auto restored = reading("listeners", [&] {
    next_id_ = saved.at("next_id").get<SocketId>();
    slots_ = saved.at("slots").get<int>();
    active_ = saved.at("active").get<std::vector<int>>();
    for (const auto& one : saved.at("addresses")) {
      Address address;
      address.text = one.at("text").get<std::string>();
      address.unix_path = one.at("unix_path").get<std::string>();
      address.family = one.at("family").get<int>();
      address.shared = one.at("shared").get<bool>();
      address.wanted = one.at("wanted").get<std::string>();
      address.inherited = one.at("inherited").get<bool>();
      address.included = one.at("included").get<bool>();
      const bool leaving = one.at("leaving").get<bool>();
      address.state = leaving ? AddressState::leaving : AddressState::open;
      address.keep = !leaving;
      address.left_at = std::chrono::milliseconds(one.at("left_at").get<std::int64_t>());
      address.stored_as = one.at("stored_as").get<std::string>();
      address.group = one.at("group").get<std::size_t>();
      address.stored = one.at("stored").get<bool>();
      addresses_.push_back(std::move(address));
      for (const auto& socket : one.at("sockets")) {
        UniqueFd fd = reader.take(socket.at("fd"));
        check_listening(fd.get(), addresses_.back().text);
        addresses_.back().sockets.push_back(
            Socket{socket.at("id").get<SocketId>(), socket.at("slot").get<int>(), std::move(fd)});
      }
    }
    listening_ = true;
    refresh();
  });
  if (!restored) addresses_.clear();
  return restored;
}

}  // namespace mgr::manager
