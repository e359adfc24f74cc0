#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace mgr::settings {

// One setting of a configuration file that is to be written. Comments may have several lines, and
// none when empty.
struct CommentedSetting {
  std::string name;
  nlohmann::json value;  // as Setting::write gives it
  std::string above;
  std::string beside;
};

// A configuration file with these settings, in this order, between two comments. It is YAML
// whatever the texts contain.
std::string write_yaml(const std::string& head, const std::vector<CommentedSetting>& settings,
                       const std::string& tail);

}  // namespace mgr::settings
