#include "common/settings/sources/environment.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "common/settings/table.h"

namespace mgr::settings {
namespace {

// Known, and no settings.
constexpr std::array<std::string_view, 1> kOthers{"MGR_CONFIG"};

Texts split(const std::string& text) {
  Texts parts;
  std::size_t start = 0;
  while (!text.empty()) {
    const std::size_t comma = text.find(',', start);
    parts.push_back(text.substr(start, comma - start));
    if (comma == std::string::npos) break;
    start = comma + 1;
  }
  for (std::string& part : parts) {
    part.erase(0, part.find_first_not_of(' '));
    part.erase(part.find_last_not_of(' ') + 1);
  }
  return parts;
}

Result<Spelled> spell(const Setting& setting, const std::string& text) {
  switch (setting.shape) {
    case Shape::scalar:
      return Spelled(text);
    case Shape::list:
      return Spelled(split(text));
    case Shape::map: {
      Result<TextMap> entries = read_entries(split(text));
      if (!entries) return entries.error();
      return Spelled(std::move(*entries));
    }
  }
  return Spelled(text);
}

void add(GivenValues& result, const Setting& setting, const std::string& variable,
         const std::string& text) {
  Result<Spelled> spelled = spell(setting, text);
  if (spelled) {
    result.values.push_back({setting.name, std::move(*spelled), variable, "env"});
  } else {
    result.errors.push_back(variable + ": " + spelled.error().message() +
                            "; allowed: " + setting.allowed);
  }
}

const Setting* find_by_variable(const std::string& variable) {
  for (const Setting& setting : table())
    if (setting.variable() == variable) return &setting;
  return nullptr;
}

}  // namespace

Environment process_environment() {
  Environment environment;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

GivenValues read_platform_variables(const Environment& environment) {
  GivenValues result;
  const auto value = [&](const char* name) -> std::string {
    const auto found = environment.find(name);
    return found == environment.end() ? "" : found->second;
  };
  if (const std::string workers = value("WEB_CONCURRENCY"); !workers.empty())
    add(result, *find("workers"), "WEB_CONCURRENCY", workers);
  if (const std::string port = value("PORT"); !port.empty())
    add(result, *find("bind"), "PORT", ":" + port);
  if (const std::string proxies = value("FORWARDED_ALLOW_IPS"); !proxies.empty())
    add(result, *find("trusted_proxies"), "FORWARDED_ALLOW_IPS", proxies);
  return result;
}

GivenValues read_variables(const Environment& environment) {
  GivenValues result;
  for (const auto& [variable, text] : environment) {
    if (!variable.starts_with("MGR_")) continue;
    if (const Setting* setting = find_by_variable(variable)) {
      add(result, *setting, variable, text);
    } else if (std::find(kOthers.begin(), kOthers.end(), variable) == kOthers.end()) {
      const Setting* nearest = find(nearest_name(variable.substr(4)));
      result.warnings.push_back(variable + ": no such setting, ignored; the nearest known one is " +
                                nearest->variable());
    }
  }
  return result;
}

Result<TextMap> read_entries(const Texts& entries) {
  TextMap map;
  for (const std::string& entry : entries) {
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0)
      return Error(in_quotes(entry) + " is no KEY=VALUE");
    if (!map.emplace(entry.substr(0, equals), entry.substr(equals + 1)).second)
      return Error(in_quotes(entry.substr(0, equals)) + " is given twice");
  }
  return map;
}

}  // namespace mgr::settings
