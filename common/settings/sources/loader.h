#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/base/read_file.h"
#include "common/base/result.h"
#include "common/settings/settings.h"
#include "common/settings/sources/environment.h"
#include "common/settings/sources/source.h"

namespace mgr {

struct LoadedSettings {
  Settings values;
  // By setting name: `default`, `file:LINE`, `env` or `command line`; of a value that follows from
  // another setting, that one's. Every setting is there.
  std::map<std::string, std::string> origins;
  std::vector<std::string> warnings;  // a line each

  // {"keep_alive": {"value": "5s", "origin": "file:12"}, …}
  nlohmann::json describe() const;
};

// Values that flags give, as the command line spells them: one text for each time a flag stands
// there. By setting name.
using CommandLineValues = std::map<std::string, settings::Texts>;

// Collects the settings of all sources. Precedence, low to high: default, WEB_CONCURRENCY and the
// like, file, MGR_*, command line. A plain value: copy it freely.
class SettingsLoader {
 public:
  // `file`: as -c names it; nothing: $MGR_CONFIG, else ./mgr.yaml if it exists.
  SettingsLoader(CommandLineValues command_line, settings::Environment environment,
                 std::optional<std::string> file);

  // Reads the file anew each time. Its path is settled, and made absolute, in the constructor, so
  // that a reload reads the same one. The error has a line for everything that is wrong.
  // `again`: not for the first time, and nothing may be waited for; a pipe can't be read twice.
  enum class Reading { first, again };
  Result<LoadedSettings> load(Reading reading = Reading::first) const;

  // Every value that is valid, whatever else is wrong: for a client that wants to know which
  // supervisor a file means.
  Settings load_what_is_valid() const;

  // As named; empty without one. The file need not exist when it was named.
  const std::string& file() const { return file_; }

 private:
  template <typename Visitor>
  void each_source(Visitor visit, Pipes pipes) const;

  CommandLineValues command_line_;
  settings::Environment environment_;
  std::string file_;      // as given, for messages
  std::string absolute_;  // where it is
};

// What only this machine can tell: `chdir` is a directory, `env_file` can be read, groups exist.
// Errors like those of load(), without a line.
Result<void> check_on_this_machine(const Settings& settings);

// A line for each file or socket whose directory is missing here: starting mgr would fail, unless
// something makes the directory before (systemd's RuntimeDirectory=).
std::vector<std::string> missing_directories(const Settings& settings);

// The settings as a file would give them, each with its origin as a comment.
std::string to_yaml(const LoadedSettings& loaded);

}  // namespace mgr
