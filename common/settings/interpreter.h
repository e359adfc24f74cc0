#pragma once

#include <functional>
#include <optional>
#include <string>

#include "common/base/result.h"

namespace mgr {

// Where to look for the Python interpreter: the setting, the environment that the application will
// have, and the current directory (which is `chdir` by then).
struct InterpreterSearch {
  std::string python;       // the setting; empty: not given
  std::string virtual_env;  // $VIRTUAL_ENV; empty: not set
  std::string path;         // $PATH
  std::function<bool(const std::string& path)> is_executable;
};

// The interpreter's path: `python` (looked up on PATH if it names no directory), else
// $VIRTUAL_ENV/bin/python3, else .venv/bin/python3, else venv/bin/python3, else python3 on PATH.
// A `python` or $VIRTUAL_ENV that has none is an error, not a reason to look further.
Result<std::string> find_interpreter(const InterpreterSearch& search);

// A regular file that this process may execute.
bool is_executable_file(const std::string& path);

}  // namespace mgr
