#pragma once

#include <string>
#include <vector>

#include "common/settings/value.h"

namespace mgr::settings {

// One value that a source gives to a setting.
struct Given {
  std::string name;  // of the setting
  Spelled value;
  std::string where;   // begins its error line: "mgr.yaml:12: keep_alive", "MGR_KEEP_ALIVE"
  std::string origin;  // as `mgr config` shows it: "file:12", "env", "command line"
};

// What a source gives: values, lowest precedence first, and what is wrong with it, a line each.
struct GivenValues {
  std::vector<Given> values;
  std::vector<std::string> errors;
  std::vector<std::string> warnings;
};

}  // namespace mgr::settings
