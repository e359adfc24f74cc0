#include "manager/cli/version.h"

#include <fmt/core.h>
#include <spdlog/version.h>
#include <CLI/Version.hpp>
#include <nlohmann/json.hpp>

#include "manager/cli/control_client.h"

namespace mgr::cli {

std::string version_text() {
  std::string text = fmt::format("mgr {}\n", MGR_VERSION);
  text += fmt::format("libuv {}\n", MGR_LIBUV_VERSION);
  text += fmt::format("llhttp {}\n", llhttp_version());
  text += fmt::format("yaml-cpp {}\n", MGR_YAML_CPP_VERSION);
  text += fmt::format("spdlog {}.{}.{}\n", SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH);
  text += fmt::format("fmt {}.{}.{}\n", FMT_VERSION / 10000, FMT_VERSION / 100 % 100,
                      FMT_VERSION % 100);
  text += fmt::format("nlohmann-json {}.{}.{}\n", NLOHMANN_JSON_VERSION_MAJOR,
                      NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH);
  text += fmt::format("CLI11 {}\n", CLI11_VERSION);
  text += "Python applications: CPython 3.11 or later\n";
  return text;
}

}  // namespace mgr::cli
