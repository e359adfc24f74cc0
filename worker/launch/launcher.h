#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/settings/settings.h"

namespace mgr::worker {

// Changes to the application's directory and gives this process its environment: `env` over
// `env_file` over what was inherited. Paths are relative to `chdir`.
Result<void> enter_application_environment(const Settings& settings);

// Whether the settings name a C++ application. Error: they name one thing and want the other.
Result<bool> is_native(const Settings& settings);

// Replaces this process by `mgr-worker --native`. Returns only an error.
Error exec_native_host();

// Replaces this process by the interpreter, which runs the host found in `python_directory`.
// Returns only an error, which names the interpreter.
Error exec_interpreter(const Settings& settings, const std::string& python_directory);

// The directory `python` beside this program.
Result<std::string> python_directory();

// What a process at the end of a supervisor's channel does that cannot even become a mold: reports
// LoadFailed{"interpreter", reason} and ends with status 4.
[[noreturn]] void refuse(std::string_view reason);

}  // namespace mgr::worker
