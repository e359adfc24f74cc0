#include "common/settings/interpreter.h"

#include <sys/stat.h>
#include <unistd.h>

#include <string_view>

namespace mgr {
namespace {

std::optional<std::string> on_path(const InterpreterSearch& search, const std::string& program) {
  std::string_view rest = search.path;
  while (!rest.empty()) {
    const auto colon = rest.find(':');
    std::string directory(rest.substr(0, colon));
    rest.remove_prefix(colon == std::string_view::npos ? rest.size() : colon + 1);
    if (directory.empty()) directory = ".";
    std::string candidate = directory + "/" + program;
    if (search.is_executable(candidate)) return candidate;
  }
  return std::nullopt;
}

Result<std::string> from_setting(const InterpreterSearch& search) {
  if (search.python.find('/') != std::string::npos) {
    if (search.is_executable(search.python)) return search.python;
    return Error("python: " + search.python + " is not an executable file");
  }
  if (auto found = on_path(search, search.python)) return *found;
  return Error("python: " + search.python + " is not on PATH" +
               (search.path.empty() ? ", which is empty" : " (" + search.path + ")"));
}

}  // namespace

Result<std::string> find_interpreter(const InterpreterSearch& search) {
  if (!search.python.empty()) return from_setting(search);
  if (!search.virtual_env.empty()) {
    const std::string candidate = search.virtual_env + "/bin/python3";
    if (search.is_executable(candidate)) return candidate;
    return Error("VIRTUAL_ENV: " + candidate + " is not an executable file");
  }
  for (const char* candidate : {".venv/bin/python3", "venv/bin/python3"}) {
    if (search.is_executable(candidate)) return std::string(candidate);
  }
  if (auto found = on_path(search, "python3")) return *found;
  return Error(
      "no Python interpreter: no setting 'python', no VIRTUAL_ENV, no .venv or venv in the "
      "application's directory, no python3 on PATH" +
      (search.path.empty() ? ", which is empty" : " (" + search.path + ")"));
}

bool is_executable_file(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
         ::access(path.c_str(), X_OK) == 0;
}

}  // namespace mgr
