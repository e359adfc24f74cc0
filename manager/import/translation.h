#pragma once

#include <string>

#include "common/settings/sources/environment.h"
#include "manager/import/foreign_settings.h"

namespace mgr::foreign {

// The mgr.yaml that equals what was given, with a comment for everything that has no equivalent; a
// file that mgr takes, whatever was given. `source` says in its first line what it is made from.
// `python`: the interpreter, where the command line named it; may be empty.
//
// What was not given has the other server's default where that is another than mgr's and an
// application would notice (one worker, one thread, the access log); $WEB_CONCURRENCY of
// `variables` counts there.
std::string translate(const Given& given, const std::string& source, const std::string& python,
                      const settings::Environment& variables);

}  // namespace mgr::foreign
