#include "manager/cli/commands.h"

#include <iostream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <variant>

#include "common/base/log.h"
#include "common/settings/checks.h"
#include "common/settings/reference.h"
#include "common/settings/schema.h"
#include "manager/cli/client_commands.h"
#include "manager/cli/command_line.h"
#include "manager/cli/version.h"
#include "manager/import/import.h"

namespace mgr::cli {
namespace {

int bad_configuration(const Error& error, Console console) {
  console.err << journal_prefix(2, LogLevel::error) << error.message() << "\n";
  return kBadConfiguration;
}

int no_application(const CommandLine& line, const std::string& file, Console console) {
  const std::string_view verb = line.verb == Verb::run ? "run" : "check";
  if (!file.empty()) {
    console.err << file << ": " << settings::kNoApplication << "\n";
    return kBadConfiguration;
  }
  console.err << "mgr " << verb << ": an application is needed: mgr " << verb
              << " module:attribute, or `app` in mgr.yaml\n";
  return kUsageError;
}

// run and check.
int start(const CommandLine& line, const Programs& programs, const Places& places,
          Console console) {
  SettingsLoader loader(line.values, places.variables, line.file);
  if (line.verb == Verb::run && programs.resume) return programs.resume(std::move(loader));
  Result<LoadedSettings> loaded = loader.load();
  if (!loaded) return bad_configuration(loaded.error(), console);
  if (loaded->values.app.empty()) return no_application(line, loader.file(), console);
  if (Result<void> here = check_on_this_machine(loaded->values); !here)
    return bad_configuration(here.error(), console);
  if (line.verb == Verb::run) return programs.run(std::move(loader), std::move(*loaded));
  for (const std::string& warning : loaded->warnings) console.err << warning << "\n";
  for (const std::string& warning : missing_directories(loaded->values))
    console.err << warning << "\n";
  return programs.check(loaded->values);
}

int print_effective(const CommandLine& line, const Places& places, Console console) {
  const SettingsLoader loader(line.values, places.variables, line.file);
  const Result<LoadedSettings> loaded = loader.load();
  if (!loaded) return bad_configuration(loaded.error(), console);
  for (const std::string& warning : loaded->warnings) console.err << warning << "\n";
  if (line.output == ConfigOutput::json) {
    console.out << loaded->describe().dump(2) << "\n";
  } else {
    console.out << to_yaml(*loaded);
  }
  return 0;
}

int print_config(const CommandLine& line, const Places& places, Console console) {
  switch (line.output) {
    case ConfigOutput::schema:
      console.out << settings::file_schema().dump(2) << "\n";
      return 0;
    case ConfigOutput::reference:
      console.out << settings::markdown_reference();
      return 0;
    case ConfigOutput::text:
    case ConfigOutput::json:
      return print_effective(line, places, console);
  }
  return kFailed;
}

int print_import(const CommandLine& line, const Places& places, Console console) {
  const Result<std::string> file =
      line.import_file ? foreign::import_file(*line.import_file, places.variables)
                       : foreign::import_command_line(line.import_words, places.variables);
  if (!file) {
    console.err << "mgr import: " << file.error().message() << "\n";
    return kUsageError;
  }
  console.out << *file;
  return 0;
}

int carry_out(const CommandLine& line, const Programs& programs, const Places& places,
              Console console) {
  switch (line.verb) {
    case Verb::run:
    case Verb::check:
      return start(line, programs, places, console);
    case Verb::config:
      return print_config(line, places, console);
    case Verb::import_settings:
      return print_import(line, places, console);
    case Verb::version:
      console.out << version_text();
      return 0;
    case Verb::status:
    case Verb::metrics:
    case Verb::ready:
    case Verb::scale:
    case Verb::reload:
    case Verb::restart:
    case Verb::stack:
    case Verb::stop:
    case Verb::upgrade:
    case Verb::drain:
    case Verb::undrain:
    case Verb::reopen:
    case Verb::log_level:
    case Verb::events:
      return ask_supervisor(line, places, console);
  }
  return kFailed;
}

}  // namespace

int run_command_line(std::vector<std::string> arguments, const Programs& programs,
                     const Places& places, Console console) {
  const auto parsed = parse_command_line(std::move(arguments));
  if (const auto* early = std::get_if<EarlyExit>(&parsed)) {
    (early->status == 0 ? console.out : console.err) << early->text;
    return early->status;
  }
  const int status = carry_out(std::get<CommandLine>(parsed), programs, places, console);
  if (console.out.flush() || status != 0) return status;
  console.err << "mgr: standard output can't be written\n";
  return kFailed;
}

}  // namespace mgr::cli
