#pragma once

#include <string>

namespace mgr {

// The current directory by the name that it was entered by: $PWD where that leads here, which may
// be a symbolic link, else what getcwd(3) says. Empty: it has none, as after it was removed.
std::string current_directory();

}  // namespace mgr
