#include "manager/import/import.h"

#include <unistd.h>

#include "common/base/current_directory.h"
#include "common/settings/interpreter.h"
#include "manager/import/foreign_command_line.h"
#include "manager/import/settings_file.h"
#include "manager/import/translation.h"

namespace mgr::foreign {
namespace {

constexpr const char* kGunicornFile = "gunicorn.conf.py";

std::string value_of(const settings::Environment& variables, const char* name) {
  const auto found = variables.find(name);
  return found == variables.end() ? "" : found->second;
}

// `python`: the one that the command line names; may be empty.
Result<Given> read_file(Server server, const std::string& file, const std::string& python,
                        const settings::Environment& variables) {
  const InterpreterSearch search{python.empty() ? value_of(variables, "MGR_PYTHON") : python,
                                 value_of(variables, "VIRTUAL_ENV"), value_of(variables, "PATH"),
                                 is_executable_file};
  Result<std::string> interpreter = find_interpreter(search);
  if (!interpreter) return std::move(interpreter).error();
  Result<Given> given = run_settings_file(server, file, *interpreter);
  if (given) given->directory = current_directory();
  return given;
}

// The file that the server would read; empty: none.
std::string file_of(const Given& given) {
  const auto named = given.values.find("config");
  if (named != given.values.end()) return named->second.get<std::string>();
  const bool usual = given.server == Server::gunicorn && ::access(kGunicornFile, F_OK) == 0;
  return usual ? kGunicornFile : "";
}

void put_over(Given& given, const Given& stronger) {
  for (const auto& [name, value] : stronger.values) given.values[name] = value;
}

}  // namespace

Result<std::string> import_file(const std::string& file, const settings::Environment& variables) {
  const Result<Given> given = read_file(server_of_file(file), file, "", variables);
  if (!given) return given.error();
  return translate(*given, file, "", variables);
}

Result<std::string> import_command_line(const std::vector<std::string>& words,
                                        const settings::Environment& variables) {
  Result<ForeignCommandLine> line = parse_foreign(words, current_directory());
  if (!line) return std::move(line).error();
  std::string source = "a command line of " + std::string(name_of(line->given.server));
  Given flags = line->given;
  Result<Given> environment = foreign_environment(flags.server, variables);
  if (!environment) return std::move(environment).error();
  if (!environment->values.empty()) {
    put_over(*environment, flags);
    flags.values = environment->values;
    source += ", its environment";
  }
  const std::string more = value_of(variables, "GUNICORN_CMD_ARGS");
  if (flags.server == Server::gunicorn && !more.empty()) {
    Result<Given> weaker = parse_gunicorn_flags(more);
    if (!weaker) return Error("GUNICORN_CMD_ARGS: " + weaker.error().message());
    put_over(*weaker, flags);
    flags.values = weaker->values;
    source += ", $GUNICORN_CMD_ARGS";
  }
  const std::string file = file_of(flags);
  flags.values.erase("config");
  if (file.empty()) return translate(flags, source, line->python, variables);
  Result<Given> given = read_file(flags.server, file, line->python, variables);
  if (!given) return std::move(given).error();
  put_over(*given, flags);
  given->skipped = flags.skipped;
  return translate(*given, source + " and " + file, line->python, variables);
}

}  // namespace mgr::foreign
