#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/settings/value.h"

namespace mgr::foreign {

enum class Server { gunicorn, uvicorn, hypercorn, granian };
inline constexpr std::size_t kServers = 4;
std::string_view name_of(Server server);  // "Gunicorn"

// What was given to one of them: by name, as Python's and TOML's values are in JSON, or as flags
// have them (a text, a list of texts, true or false). null is Python's None.
struct Given {
  Server server = Server::gunicorn;
  std::map<std::string, nlohmann::json> values;
  std::string directory;  // which relative paths start from
  std::string skipped;    // words of the command line before the server; may be empty
};

// What a value becomes.
struct Converted {
  std::optional<settings::Spelled> value;  // of the target; nothing: there is none to set
  std::string remark;                      // why not, or what differs; empty: the setting's own
};
using Convert = Converted (*)(const Given& given, const nlohmann::json& value);

// What a flag takes.
enum class Takes {
  value,
  values,          // the flag may be repeated
  nothing,         // it is a switch: its flags are true, its off_flags are false
  optional_value,  // the next word only where it is one of off, v1, v2, auto; else it is `auto`
};

// One setting of such a server, declared once: how it is given, and what it is in mgr.
struct ForeignSetting {
  std::string_view name;       // as in its file, else its option with '_' for '-'
  std::string_view flags;      // with spaces between; empty: in the file alone
  std::string_view off_flags;  // those that mean the contrary
  Takes takes = Takes::value;
  std::string_view target;    // of mgr's settings; empty: none
  Convert convert = nullptr;  // null: there is no equivalent, `remark` says why
  std::string_view remark;    // why not, or what differs; may be empty where there is a target
};

// All settings, in the order of their documentation.
const std::vector<ForeignSetting>& foreign_settings(Server server);

// Null for an unknown one.
const ForeignSetting* find_foreign(Server server, std::string_view name);

}  // namespace mgr::foreign
