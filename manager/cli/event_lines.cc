#include "manager/cli/event_lines.h"

#include <utility>

namespace mgr::cli {

using nlohmann::ordered_json;

namespace {

std::string value_text(const ordered_json& value) {
  const std::string quoted = value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  if (!value.is_string()) return quoted;
  const auto& text = value.get_ref<const std::string&>();
  const bool plain = !text.empty() && quoted.size() == text.size() + 2 &&
                     text.find_first_of(" =") == std::string::npos;
  return plain ? text : quoted;
}

}  // namespace

std::vector<std::string> EventReader::take(std::string_view bytes) {
  std::vector<std::string> events;
  for (const char c : bytes) {
    if (c != '\n') {
      line_ += c;
      continue;
    }
    const std::string line = std::exchange(line_, {});
    if (line.starts_with("data: ")) data_ += line.substr(6);
    if (line.empty() && !data_.empty()) events.push_back(std::exchange(data_, {}));
  }
  return events;
}

std::string event_text(const ordered_json& event) {
  std::string text;
  for (const auto& [name, value] : event.items()) {
    const bool title = name == "time" || name == "event";
    text += (text.empty() ? "" : " ") + (title ? "" : name + "=") + value_text(value);
  }
  return text;
}

}  // namespace mgr::cli
