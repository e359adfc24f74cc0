#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mgr::settings {

// A C++ application as the setting `app` names it: `path/to/lib.so` or `path/to/lib.so:symbol`.
struct LibraryName {
  std::string path;
  std::string symbol = "mgr_application";
};

// nullopt: it names something else (a Python application).
std::optional<LibraryName> library_named_by(std::string_view app);

}  // namespace mgr::settings
