#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "common/settings/settings.h"
#include "common/settings/value.h"

namespace mgr::settings {

// Part of the reference that a setting is listed under; in the order of the reference.
enum class Group { application, listening, workers, process, http, control };
std::string_view group_title(Group group);

// Whether `mgr reload` applies a changed value, or only a new start of the supervisor.
enum class Reload { applies, needs_restart };

enum class Shape { scalar, list, map };

// One setting, declared once. Everything else that knows settings (file, environment, flags,
// validation, `mgr config`, schema, reference) is made from this.
struct Setting {
  std::string name;  // as in the file: keep_alive
  Group group;
  Reload reload;
  Shape shape;
  std::string type;       // for people: "duration"
  std::string allowed;    // for people: "10ms to 24h"
  std::string help;       // one sentence, with its unit
  nlohmann::json schema;  // JSON Schema of the value

  // Reads and validates a value. Errors say what is wrong, without the name and `allowed`.
  std::function<Result<void>(const Spelled& value, Settings& settings)> read;
  // The value as the file would spell it.
  std::function<nlohmann::json(const Settings& settings)> write;

  std::string flag() const;      // --keep-alive
  std::string variable() const;  // MGR_KEEP_ALIVE

  // read(), whose error then names what is allowed: "'x' is no duration; allowed: 10ms to 24h".
  Result<void> apply(const Spelled& value, Settings& settings) const;
};

// Every setting, in the order of the reference. Constant.
const std::vector<Setting>& table();

// Null for an unknown name.
const Setting* find(std::string_view name);

// The known name with the fewest letters to change; '-' and '_' and cases are alike.
std::string nearest_name(std::string_view unknown);

// Names of the settings whose values differ and which a reload can't apply.
std::vector<std::string> needing_restart(const Settings& before, const Settings& after);

}  // namespace mgr::settings
