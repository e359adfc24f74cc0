#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/settings/settings.h"

namespace mgr::manager {

// The descriptors of the logs. Opened at start; borrowed by everybody else, by numbers that stay
// the same for the supervisor's life.
class LogFiles {
 public:
  LogFiles() = default;  // standard error, and no access log
  // Errors name setting, path and reason.
  static Result<LogFiles> open(const Settings& settings);
  // What open() made of the same settings, in a program before this one. Either may be none.
  static LogFiles adopt(const Settings& settings, UniqueFd log, UniqueFd access);

  int log_fd() const { return log_.fd ? log_.fd.get() : 2; }
  int access_fd() const { return access_.fd ? access_.fd.get() : -1; }
  // As they are to be adopted; -1: none.
  int own_log_fd() const { return log_.fd.get(); }
  // Whether it is a file that can be opened by its name again.
  bool has_log_file() const { return !log_.path.empty(); }
  bool has_access_file() const { return !access_.path.empty(); }

  // Opens both files by name again, for a rotation that has moved them away: made anew where they
  // are missing. An error leaves both as they were.
  Result<void> reopen();

 private:
  struct File {
    UniqueFd fd;
    std::string path;  // absolute; empty: no file
  };
  static bool is_file(const std::string& access_log);
  static Result<UniqueFd> open_file(const char* setting, const std::string& path);

  File log_;     // log_file; none: standard error
  File access_;  // access_log; none: off
};

}  // namespace mgr::manager
