#include "common/settings/sources/yaml_output.h"

#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>

namespace mgr::settings {
namespace {

using nlohmann::json;

std::string scalar(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void emit(YAML::Emitter& out, const json& value) {
  if (value.is_object()) {
    out << YAML::Flow << YAML::BeginMap;
    for (const auto& [key, element] : value.items())
      out << YAML::Key << key << YAML::Value << scalar(element);
    out << YAML::EndMap;
  } else if (value.is_array()) {
    out << YAML::Flow << YAML::BeginSeq;
    for (const json& element : value) out << scalar(element);
    out << YAML::EndSeq;
  } else {
    out << scalar(value);
  }
}

std::string comment(const std::string& text) {
  if (text.empty()) return "";
  YAML::Emitter out;
  out << YAML::Comment(text);
  return std::string(out.c_str()) + "\n";
}

// A document of its own: yaml-cpp puts a comment before a key behind the value before it.
std::string setting_lines(const CommentedSetting& setting) {
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << setting.name << YAML::Value;
  emit(out, setting.value);
  if (!setting.beside.empty()) out << YAML::Comment(setting.beside);
  out << YAML::EndMap;
  return comment(setting.above) + out.c_str() + "\n";
}

}  // namespace

std::string write_yaml(const std::string& head, const std::vector<CommentedSetting>& settings,
                       const std::string& tail) {
  std::string text = comment(head);
  if (!settings.empty()) text += "\n";
  for (const CommentedSetting& setting : settings) text += setting_lines(setting);
  if (!tail.empty()) text += "\n";
  return text + comment(tail);
}

}  // namespace mgr::settings
