#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/settings/sources/loader.h"

namespace mgr::cli {

enum class Verb {
  run,
  check,
  config,
  status,
  metrics,
  ready,
  scale,
  reload,
  restart,
  stack,
  stop,
  upgrade,
  import_settings,
  drain,
  undrain,
  reopen,
  log_level,
  events,
  version
};

// `mgr scale 12`, `mgr scale +2`, `mgr scale -1`.
struct ScaleRequest {
  bool relative = false;
  int number = 0;
};

// How a client names its supervisor; nothing: the only one that runs.
struct Target {
  std::optional<std::string> control{};   // --control PATH
  std::optional<std::string> instance{};  // -i NAME
  std::optional<std::string> file{};      // -c FILE
};

enum class ConfigOutput { text, json, schema, reference };

// One command, as given. Fields that the verb does not use keep their defaults.
struct CommandLine {
  Verb verb = Verb::version;
  CommandLineValues values{};         // run, check, config: flags of settings, and APP
  std::optional<std::string> file{};  // run, check, config: -c FILE
  ConfigOutput output = ConfigOutput::text;
  Target target{};    // the clients
  bool json = false;  // status, events
  ScaleRequest scale{};
  std::vector<int> slots{};                  // restart (empty: all), stack (one)
  std::string level{};                       // log-level
  bool now = false;                          // stop
  std::optional<std::string> import_file{};  // import: FILE, or
  std::vector<std::string> import_words{};   // … what stands behind `--`
};

// Nothing to carry out: help (status 0), or a usage error of one line (status 2).
struct EarlyExit {
  int status = 2;
  std::string text;
};

inline constexpr int kUsageError = 2;

// `arguments`: without the program's name. Values of settings are not validated here.
std::variant<CommandLine, EarlyExit> parse_command_line(std::vector<std::string> arguments);

}  // namespace mgr::cli
