#include "manager/supervisor/control_answer.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

namespace mgr::manager {
namespace {

using nlohmann::ordered_json;

std::string dump(const ordered_json& document) {
  return document.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

// Only a client that reads it by itself sees it.
const char* phrase_of(int status) {
  return status / 100 == 2 ? "OK" : status == 409 ? "Conflict" : "Unprocessable Content";
}

}  // namespace

ControlAnswer ControlAnswer::to_change(const Outcome& outcome) {
  std::string not_applied;
  for (const auto& name : outcome.not_applied)
    not_applied += (not_applied.empty() ? "" : ", ") + name;
  const std::string suffix =
      not_applied.empty() ? ""
                          : "; not applied by a reload, needs a restart of mgr: " + not_applied;
  if (outcome.ok) {
    ordered_json document{{"message", outcome.message + suffix}};
    if (!outcome.not_applied.empty()) document["not_applied"] = outcome.not_applied;
    return {200, "application/json", dump(document)};
  }
  ordered_json more = ordered_json::object();
  std::string detail = outcome.message + suffix;
  if (outcome.failure) {
    more["stage"] = outcome.failure->stage;
    more["error"] = outcome.failure->error;
    detail += "\n" + outcome.failure->stage + ": " + outcome.failure->error;
    if (!outcome.failure->detail.empty()) detail += "\n" + outcome.failure->detail;
  }
  return problem(outcome.conflict ? 409 : 422, outcome.conflict ? "Conflict" : "Not Done", detail,
                 more);
}

ControlAnswer ControlAnswer::problem(int status, std::string_view title, std::string_view detail,
                                     const ordered_json& more) {
  ordered_json document{
      {"type", "about:blank"}, {"title", title}, {"status", status}, {"detail", detail}};
  document.update(more);
  return {status, "application/problem+json", dump(document)};
}

std::string ControlAnswer::as_http() const {
  return fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
      status, phrase_of(status), type, body.size(), body);
}

}  // namespace mgr::manager
