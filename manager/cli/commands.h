#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "common/settings/sources/loader.h"
#include "manager/cli/find_supervisor.h"

namespace mgr::cli {

// The commands that need more than this library: given by main.
struct Programs {
  std::function<int(SettingsLoader loader, LoadedSettings settings)> run;
  std::function<int(const Settings& settings)> check;
  // Takes the place of `run` where a supervisor goes on from a saved state; its settings are there.
  std::function<int(SettingsLoader loader)> resume = {};
};

// Where commands print to.
struct Console {
  std::ostream& out;
  std::ostream& err;
};

inline constexpr int kFailed = 1;
inline constexpr int kBadConfiguration = 78;  // EX_CONFIG

// Carries out one command line (without the program's name) and returns the exit status.
int run_command_line(std::vector<std::string> arguments, const Programs& programs,
                     const Places& places, Console console);

}  // namespace mgr::cli
