#pragma once

#include <string>

#include "common/base/result.h"
#include "manager/import/foreign_settings.h"

namespace mgr::foreign {

// The server that a file is of: `.toml` is Hypercorn's, all else Gunicorn's.
Server server_of_file(const std::string& file);

// Takes the settings that a configuration file of this server gives, by `python` in a child, which
// executes a Python file as the server does. `file` is a path, or `file:PATH` or `python:MODULE`;
// one that ends with `.toml` is read by tomllib (Python 3.11). What a file prints goes to standard
// error. Errors, of one line: not readable, an exception with its line, not done in 30 s.
Result<Given> run_settings_file(Server server, const std::string& file, const std::string& python);

}  // namespace mgr::foreign
