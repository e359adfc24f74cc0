#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/settings/settings.h"

namespace mgr::manager {

// What `reload_on_change` watches.
struct SourceFiles {
  std::vector<std::string> trees;  // directories: every *.py below them
  std::vector<std::string> files;  // whatever they are called, and whether they exist or not
  bool operator==(const SourceFiles&) const = default;
};

// `reload_paths`, or `chdir` where there are none; the library of a C++ application, env_file and
// the configuration file. Paths are absolute, or relative to the working directory.
SourceFiles source_files_of(const Settings& settings);

// Whether a file below a tree counts by its name: Python, and no editor's lock or backup.
bool is_source_name(std::string_view name);
// Whether files below a directory of this name count: not those of caches, virtual environments,
// installed packages and whatever is hidden (.git).
bool is_source_directory(std::string_view name);

}  // namespace mgr::manager
