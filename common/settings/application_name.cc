#include "common/settings/application_name.h"

#include <algorithm>
#include <cctype>

namespace mgr::settings {
namespace {

constexpr std::string_view kEnding = ".so";

bool is_symbol(std::string_view text) {
  const auto allowed = [](char c) {
    return c == '_' || std::isalnum(static_cast<unsigned char>(c)) != 0;
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), allowed) &&
         !std::isdigit(static_cast<unsigned char>(text.front()));
}

bool is_library(std::string_view path) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  return path.ends_with(kEnding) && path.size() > kEnding.size() &&
         std::none_of(path.begin(), path.end(), is_control);
}

}  // namespace

std::optional<LibraryName> library_named_by(std::string_view app) {
  if (is_library(app)) return LibraryName{std::string(app)};
  const std::size_t colon = app.rfind(':');
  if (colon == std::string_view::npos || !is_library(app.substr(0, colon)) ||
      !is_symbol(app.substr(colon + 1))) {
    return std::nullopt;
  }
  return LibraryName{std::string(app.substr(0, colon)), std::string(app.substr(colon + 1))};
}

}  // namespace mgr::settings
