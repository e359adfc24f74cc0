#include "common/settings/sources/loader.h"

#include <fmt/core.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/base/current_directory.h"
#include "common/net/address.h"
#include "common/settings/account.h"
#include "common/settings/env_file.h"
#include "common/settings/sources/yaml_file.h"
#include "common/settings/table.h"

namespace mgr {
namespace {

using settings::Given;
using settings::GivenValues;
using settings::Setting;
using settings::Spelled;

constexpr const char* kDefaultFile = "mgr.yaml";

std::string find_file(const std::optional<std::string>& named,
                      const settings::Environment& environment) {
  if (named) return *named;
  const auto variable = environment.find("MGR_CONFIG");
  if (variable != environment.end() && !variable->second.empty()) return variable->second;
  return ::access(kDefaultFile, F_OK) == 0 ? kDefaultFile : "";
}

std::string made_absolute(const std::string& path) {
  if (path.empty() || path.front() == '/') return path;
  const std::string directory = current_directory();
  return directory.empty() ? path : directory + "/" + path;
}

GivenValues read_command_line(const CommandLineValues& values) {
  GivenValues result;
  for (const auto& [name, texts] : values) {
    const Setting& setting = *settings::find(name);
    Spelled spelled = texts;
    if (setting.shape == settings::Shape::scalar) {
      spelled = texts.back();
    } else if (setting.shape == settings::Shape::map) {
      Result<settings::TextMap> entries = settings::read_entries(texts);
      if (!entries) {
        result.errors.push_back(setting.flag() + ": " + entries.error().message() +
                                "; allowed: " + setting.allowed);
        continue;
      }
      spelled = std::move(*entries);
    }
    result.values.push_back({name, std::move(spelled), setting.flag(), "command line"});
  }
  return result;
}

// Applies sources to settings and keeps account of origins and errors.
class Collector {
 public:
  Collector() {
    for (const Setting& setting : settings::table()) loaded_.origins[setting.name] = "default";
  }

  void add(GivenValues source) {
    for (const Given& given : source.values) apply(given);
    std::move(source.errors.begin(), source.errors.end(), std::back_inserter(errors_));
    std::move(source.warnings.begin(), source.warnings.end(), std::back_inserter(loaded_.warnings));
  }

  Result<LoadedSettings> finish() {
    if (!errors_.empty()) {
      std::string lines = errors_.front();
      for (std::size_t i = 1; i < errors_.size(); ++i) lines += "\n" + errors_[i];
      return Error(lines);
    }
    // A control group is of no use without permission to connect.
    if (!loaded_.values.control_group.empty() && loaded_.origins["control_mode"] == "default") {
      loaded_.values.control_mode = 0660;
      loaded_.origins["control_mode"] = loaded_.origins["control_group"];
    }
    if (loaded_.values.reload_on_change) prefer_quick_reloads();
    return std::move(loaded_);
  }

  LoadedSettings& loaded() { return loaded_; }

 private:
  void prefer_quick_reloads() {
    const auto prefer = [this](const char* name, const char* value) {
      if (loaded_.origins[name] != "default") return;
      CHECK(settings::find(name)->apply(value, loaded_.values).ok());
      loaded_.origins[name] = loaded_.origins["reload_on_change"];
    };
    prefer("workers", "1");
    prefer("min_ready", "0");
  }

  void apply(const Given& given) {
    const Result<void> applied = settings::find(given.name)->apply(given.value, loaded_.values);
    if (applied) {
      loaded_.origins[given.name] = given.origin;
    } else {
      errors_.push_back(given.where + ": " + applied.error().message());
    }
  }

  LoadedSettings loaded_;
  std::vector<std::string> errors_;
};

Result<void> check_group(const char* name, const std::string& group) {
  if (group.empty() || ::getgrnam(group.c_str())) return {};
  return Error(settings::in_quotes(group) + " is no group of this machine").with(name);
}

Result<void> check_directory(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0)
    return Error::from_errno(settings::in_quotes(path)).with("chdir");
  if (!S_ISDIR(info.st_mode))
    return Error(settings::in_quotes(path) + " is no directory").with("chdir");
  return {};
}

// A text as YAML: plain where that is beyond doubt, else in double quotes.
std::string yaml_text(const std::string& text) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '/' || c == '.' ||
           c == '-';
  };
  const bool letter = !text.empty() && (std::isalnum(static_cast<unsigned char>(text.front())) ||
                                        text.front() == '/');
  const bool null = text == "null" || text == "Null" || text == "NULL";
  if (letter && !null && std::all_of(text.begin(), text.end(), plain)) return text;
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string yaml_value(const nlohmann::json& value) {
  if (value.is_string()) return yaml_text(value.get<std::string>());
  if (!value.is_structured()) return value.dump();
  std::string text;
  for (const auto& [key, element] : value.items()) {
    if (!text.empty()) text += ", ";
    if (value.is_object()) text += yaml_text(key) + ": ";
    text += yaml_text(element.get<std::string>());
  }
  return value.is_array() ? "[" + text + "]" : "{" + text + "}";
}

}  // namespace

SettingsLoader::SettingsLoader(CommandLineValues command_line, settings::Environment environment,
                               std::optional<std::string> file)
    : command_line_(std::move(command_line)),
      environment_(std::move(environment)),
      file_(find_file(file, environment_)),
      absolute_(made_absolute(file_)) {}

template <typename Visitor>
void SettingsLoader::each_source(Visitor visit, Pipes pipes) const {
  visit(settings::read_platform_variables(environment_));
  if (!file_.empty()) visit(settings::read_yaml_file(absolute_, file_, pipes));
  visit(settings::read_variables(environment_));
  visit(read_command_line(command_line_));
}

Result<LoadedSettings> SettingsLoader::load(Reading reading) const {
  Collector collector;
  each_source([&](GivenValues source) { collector.add(std::move(source)); },
              reading == Reading::first ? Pipes::inherited : Pipes::refused);
  collector.loaded().values.config_file = absolute_;
  return collector.finish();
}

Settings SettingsLoader::load_what_is_valid() const {
  Collector collector;
  each_source([&](GivenValues source) { collector.add(std::move(source)); }, Pipes::inherited);
  collector.loaded().values.config_file = absolute_;
  return collector.loaded().values;
}

nlohmann::json LoadedSettings::describe() const {
  nlohmann::json result = nlohmann::json::object();
  for (const Setting& setting : settings::table()) {
    result[setting.name] = {{"value", setting.write(values)}, {"origin", origins.at(setting.name)}};
  }
  return result;
}

Result<void> check_on_this_machine(const Settings& settings) {
  if (Result<void> directory = check_directory(settings.chdir); !directory) return directory;
  if (Result<void> group = check_group("socket_group", settings.socket_group); !group) return group;
  if (Result<void> group = check_group("control_group", settings.control_group); !group)
    return group;
  if (const auto account = find_account(settings.user, settings.group); !account)
    return account.error();
  if (settings.env_file.empty()) return {};
  // Like every path of the application, relative to its directory.
  const bool absolute = settings.env_file.front() == '/';
  auto variables =
      read_env_file(absolute ? settings.env_file : settings.chdir + "/" + settings.env_file);
  if (!variables) return std::move(variables).error().with("env_file");
  return {};
}

std::vector<std::string> missing_directories(const Settings& settings) {
  std::vector<std::string> warnings;
  const auto look = [&warnings](std::string_view setting, const std::string& path) {
    const auto directory = std::filesystem::path(path).parent_path();
    std::error_code error;
    if (directory.empty() || std::filesystem::is_directory(directory, error)) return;
    warnings.push_back(fmt::format("{}: {}: there is no directory {} yet, and mgr run needs it",
                                   setting, path, directory.string()));
  };
  look("log_file", settings.log_file);
  if (settings.access_log != "-") look("access_log", settings.access_log);
  look("pidfile", settings.pidfile);
  if (settings.control != "off") look("control", settings.control);
  for (const std::string& bind : settings.bind) {
    const auto address = net::parse_bind_address(bind);
    if (address && address->kind == net::BindAddress::Kind::unix_path) look("bind", address->path);
  }
  return warnings;
}

std::string to_yaml(const LoadedSettings& loaded) {
  std::vector<std::string> lines;
  std::size_t width = 0;
  for (const Setting& setting : settings::table()) {
    lines.push_back(setting.name + ": " + yaml_value(setting.write(loaded.values)));
    // One very long value does not push the column out.
    if (lines.back().size() <= 40) width = std::max(width, lines.back().size());
  }
  std::string text;
  auto line = lines.begin();
  for (const Setting& setting : settings::table()) {
    line->resize(std::max(line->size(), width), ' ');
    text += *line++ + "  # " + loaded.origins.at(setting.name) + "\n";
  }
  return text;
}

}  // namespace mgr
