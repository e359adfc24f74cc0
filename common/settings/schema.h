#pragma once

#include <nlohmann/json.hpp>

namespace mgr::settings {

// The JSON Schema (draft 2020-12) of the configuration file, from the table. It takes every file
// that mgr takes; what a schema can't say (octal modes, addresses) mgr checks itself.
nlohmann::ordered_json file_schema();

}  // namespace mgr::settings
