#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace mgr::cli {

// What `mgr status` prints for a status document (contract section 5): a few lines about the
// supervisor, then a line for each worker. A field that is missing shows as '-'.
std::string status_text(const nlohmann::json& status);

}  // namespace mgr::cli
