#pragma once

#include <list>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "common/server/exchange.h"
#include "manager/supervisor/events.h"

namespace mgr::manager {

// Those who listen to the service's events: responses of server-sent events (WHATWG HTML 9.2), one
// `event:` and one `data:` line (a JSON object) each. Nothing is kept for a listener but what its
// connection buffers: while that is full its events are dropped, and `dropped` then says how many.
// One that reads nothing at all is cut by the server's write_timeout.
class EventStream {
 public:
  static constexpr std::size_t kMostListeners = 32;

  EventStream();
  ~EventStream();
  EventStream(const EventStream&) = delete;

  bool full();
  // Takes the exchange over and begins its response with the event `state` and this object.
  // There must be room.
  void add(server::Exchange& exchange, const nlohmann::ordered_json& state);
  // The event `stopped` ends all responses.
  void publish(const Event& event);
  // Ends all responses: another program goes on in this process.
  void end();

 private:
  class Listener;
  void sweep();

  std::list<std::unique_ptr<Listener>> listeners_;
};

// One event as it goes over the wire. `time`: RFC 3339.
std::string wire_text(std::string_view time, std::string_view kind,
                      const nlohmann::ordered_json& fields);

}  // namespace mgr::manager
