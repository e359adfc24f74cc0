#pragma once

#include <string>
#include <string_view>

#include "common/base/read_file.h"
#include "common/settings/sources/source.h"

namespace mgr::settings {

// The values of a YAML text; `file` names it in messages. All errors are collected: a text that is
// no YAML, a second document, a root that is no map, a key that is unknown, twice there or without
// a value, and values nested deeper than a list or a map of single values. Whether a value is valid
// is for the table. An empty text is an empty map.
GivenValues read_yaml(std::string_view text, const std::string& file);

// The same for the file at `path`. A file that can't be read is an error like the others.
GivenValues read_yaml_file(const std::string& path, const std::string& file,
                           Pipes pipes = Pipes::refused);

}  // namespace mgr::settings
