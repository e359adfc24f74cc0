#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace mgr::cli {

// Cuts a stream of server-sent events (WHATWG HTML 9.2), as it comes in pieces, into the data of
// each event.
class EventReader {
 public:
  // The events that are complete with these bytes.
  std::vector<std::string> take(std::string_view bytes);

 private:
  std::string line_;
  std::string data_;
};

// What `mgr events` prints of one: time, event, then NAME=VALUE; without the line's end. A value
// with a space is quoted as JSON does.
std::string event_text(const nlohmann::ordered_json& event);

}  // namespace mgr::cli
