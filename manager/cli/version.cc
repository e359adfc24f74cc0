#include "manager/cli/version.h"

#include "manager/versions.h"

namespace mgr::cli {

std::string version_text() {
  std::string text;
  for (const Version& of : versions()) text += of.name + " " + of.version + "\n";
  return text + "Python applications: CPython 3.11 or later\n";
}

}  // namespace mgr::cli
