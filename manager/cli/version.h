#pragma once

#include <string>

namespace mgr::cli {

// Versions of mgr, its libraries and the Python that it hosts, a line each.
std::string version_text();

}  // namespace mgr::cli
