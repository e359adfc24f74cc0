#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "manager/import/foreign_settings.h"

namespace mgr::foreign {

// A command that starts one of the servers, as its own parser reads it.
struct ForeignCommandLine {
  Given given;
  std::string python;  // the interpreter, where a path to it or to the server's script names it
};

// `gunicorn …`, `uvicorn …`, `hypercorn …` or `granian …`, with a path or without, or `python -m`
// one of them; `directory` is the one that it is given in. Errors, of one line: another program, a
// flag that it does not know or that lacks its value, one argument too many.
Result<ForeignCommandLine> parse_foreign(const std::vector<std::string>& words,
                                         const std::string& directory);

// The same for $GUNICORN_CMD_ARGS, without a program: flags alone.
Result<Given> parse_gunicorn_flags(const std::string& text);

}  // namespace mgr::foreign
