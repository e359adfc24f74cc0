#pragma once

#include <map>
#include <string>

#include "common/settings/sources/source.h"

namespace mgr::settings {

using Environment = std::map<std::string, std::string>;

// Variables of this process.
Environment process_environment();

// WEB_CONCURRENCY, PORT and FORWARDED_ALLOW_IPS, as platforms set them; empty ones don't count.
// Below the file in precedence.
GivenValues read_platform_variables(const Environment& environment);

// MGR_* for every setting; lists and maps with commas between. A MGR_* that is none is a warning,
// since orchestrators inject some. Above the file in precedence.
GivenValues read_variables(const Environment& environment);

// "A=1" as an entry of a map. Errors: no '='.
Result<TextMap> read_entries(const Texts& entries);

}  // namespace mgr::settings
