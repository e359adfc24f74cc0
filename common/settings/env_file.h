#pragma once

#include <map>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace mgr {

// Variables in a file as `env_file` names it: a line each, NAME=VALUE, `export ` in front allowed.
// Blank lines and lines that begin with '#' are skipped. In double quotes a backslash escapes n, ",
// $ and itself; text in single quotes is taken as it is; nothing is expanded. The last of two equal
// names counts. Errors: `path:3: …`.
Result<std::map<std::string, std::string>> read_env_file(const std::string& path);

// The same on a text; errors begin with the line: `3: …`.
Result<std::map<std::string, std::string>> parse_env_file(std::string_view text);

}  // namespace mgr
