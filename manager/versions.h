#pragma once

#include <string>
#include <vector>

namespace mgr {

struct Version {
  std::string name;
  std::string version;
};

// mgr, and then the libraries it is built with.
std::vector<Version> versions();

}  // namespace mgr
