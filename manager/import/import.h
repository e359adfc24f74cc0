#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/settings/sources/environment.h"

namespace mgr::foreign {

// `mgr import FILE`: the mgr.yaml that equals a Gunicorn configuration file (or a TOML file of
// Hypercorn), read by the interpreter that mgr would take in this directory. Errors are one line.
Result<std::string> import_file(const std::string& file, const settings::Environment& variables);

// `mgr import -- ARGS`: that which equals a command line of Gunicorn, Uvicorn, Hypercorn or Granian
// given in this directory, with what the server would read too: its configuration file, and
// $GUNICORN_CMD_ARGS.
Result<std::string> import_command_line(const std::vector<std::string>& words,
                                        const settings::Environment& variables);

}  // namespace mgr::foreign
