#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/settings/sources/environment.h"
#include "manager/import/foreign_settings.h"

namespace mgr::foreign {

// A command that starts one of the servers, as its own parser reads it.
struct ForeignCommandLine {
  Given given;
  std::string python;  // the interpreter, where a path to it or to the server's script names it
};

// `gunicorn …`, `uvicorn …`, `hypercorn …` or `granian …`, with a path or without, or `python -m`
// one of them; other words may stand before (`exec`, `env A=b`, `poetry run`), and all of it may be
// one word, as a shell would split it. `directory` is the one that it is given in. Errors, of one
// line: another program, a flag that it does not know or that lacks its value, one argument too
// many.
Result<ForeignCommandLine> parse_foreign(const std::vector<std::string>& words,
                                         const std::string& directory);

// What its own variables give it: UVICORN_PORT and the like, GRANIAN_PORT. Errors name the
// variable.
Result<Given> foreign_environment(Server server, const settings::Environment& variables);

// The same for $GUNICORN_CMD_ARGS, without a program: flags alone.
Result<Given> parse_gunicorn_flags(const std::string& text);

}  // namespace mgr::foreign
