#pragma once

#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace mgr::manager {

// The file of the setting `pidfile`: this process's number and a line's end. It is locked
// (flock(2)) for as long as this process lives, so that another start is refused while it does,
// whatever number a stale file holds; the lock ends with the process, and is not inherited across
// exec. The destructor removes the file, where it is still the one that was made here.
class PidFile {
 public:
  // Errors: another process holds it (which is named), or it can't be written.
  static Result<PidFile> take(const std::string& path);
  // The one that a program before this one has taken in this process: fd() and path() of then.
  static PidFile adopt(UniqueFd fd, std::string path) { return {std::move(fd), std::move(path)}; }
  ~PidFile();
  PidFile(PidFile&&) = default;
  PidFile& operator=(PidFile&&) = delete;

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }

 private:
  PidFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  UniqueFd fd_;
  std::string path_;  // absolute
};

}  // namespace mgr::manager
