#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {

// What the control API answers to a change (contract section 3).
struct ControlAnswer {
  int status = 200;
  std::string type;
  std::string body;

  static ControlAnswer to_change(const Outcome& outcome);
  // A problem document (RFC 9457). `more`: a JSON object whose members are added; or empty.
  static ControlAnswer problem(int status, std::string_view title, std::string_view detail,
                               const nlohmann::ordered_json& more);
  // The whole response, after which the connection is closed.
  std::string as_http() const;
};

}  // namespace mgr::manager
