#include "common/settings/settings.h"

#include <cctype>
#include <nlohmann/json.hpp>

#include "common/net/address.h"
#include "common/settings/application_name.h"
#include "common/settings/table.h"

namespace mgr {
namespace {

// "/etc/mgr/shop.yaml" → "shop"
std::string stem(const std::string& path) {
  const std::string file = path.substr(path.rfind('/') + 1);
  const std::size_t dot = file.rfind('.');
  return dot == std::string::npos || dot == 0 ? file : file.substr(0, dot);
}

// What tells this address from others: the port, or the socket's name.
std::string address_label(const std::string& bind) {
  const Result<net::BindAddress> address = net::parse_bind_address(bind);
  if (!address) return {};
  switch (address->kind) {
    case net::BindAddress::Kind::tcp:
      return std::to_string(address->port);
    case net::BindAddress::Kind::unix_path:
      return stem(address->path);
    case net::BindAddress::Kind::unix_abstract:
      return address->path;
    case net::BindAddress::Kind::fd:
      return "fd" + std::to_string(address->fd);
  }
  return {};
}

std::string as_name(std::string text) {
  constexpr std::size_t kLongest = 64;
  for (char& c : text) {
    const bool allowed = std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_';
    if (!allowed) c = '-';
  }
  return text.substr(0, kLongest);
}

// Travels with the settings, but is none.
constexpr const char* kConfigFile = "config_file";

}  // namespace

nlohmann::json Settings::to_json() const {
  nlohmann::json values = nlohmann::json::object();
  for (const settings::Setting& setting : settings::table())
    values[setting.name] = setting.write(*this);
  values[kConfigFile] = config_file;
  return values;
}

Result<Settings> Settings::from_json(const nlohmann::json& values) {
  if (!values.is_object()) return Error("settings: no JSON object");
  Settings result;
  for (const auto& [name, value] : values.items()) {
    if (name == kConfigFile && value.is_string()) {
      result.config_file = value.get<std::string>();
      continue;
    }
    const settings::Setting* setting = settings::find(name);
    if (!setting) return Error("unknown setting").with(name);
    const Result<settings::Spelled> spelled = settings::spelled_from_json(value);
    if (!spelled) return Error(spelled.error()).with(name);
    if (Result<void> read = setting->apply(*spelled, result); !read)
      return std::move(read).error().with(name);
  }
  return result;
}

std::string Settings::derived_name() const {
  if (!name.empty()) return as_name(name);
  if (!config_file.empty()) return as_name(stem(config_file));
  const auto library = settings::library_named_by(app);
  const std::string application = library ? stem(library->path) : app.substr(0, app.find(':'));
  return as_name(application + "-" + (bind.empty() ? "" : address_label(bind.front())));
}

}  // namespace mgr
