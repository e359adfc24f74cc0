#include "common/base/current_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>

namespace mgr {

std::string current_directory() {
  struct stat here {};
  struct stat there {};
  const char* named = std::getenv("PWD");
  if (named && *named == '/' && ::stat(".", &here) == 0 && ::stat(named, &there) == 0 &&
      here.st_dev == there.st_dev && here.st_ino == there.st_ino) {
    return named;
  }
  char directory[PATH_MAX];
  return ::getcwd(directory, sizeof directory) ? directory : "";
}

}  // namespace mgr
