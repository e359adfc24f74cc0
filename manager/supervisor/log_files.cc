#include "manager/supervisor/log_files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace mgr::manager {
namespace {

std::string absolute(const std::string& path) {
  std::error_code error;
  const auto whole = std::filesystem::absolute(path, error);
  return error ? path : whole.string();
}

}  // namespace

Result<UniqueFd> LogFiles::open_file(const char* setting, const std::string& path) {
  // Without O_NONBLOCK, open() waits until somebody reads a FIFO.
  UniqueFd fd(::open(path.c_str(),
                     O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644));
  if (!fd && errno == ENXIO)
    return Error(fmt::format("{}: {}: a FIFO or device that nobody reads", setting, path), ENXIO);
  if (!fd) return Error::from_errno(fmt::format("{}: {}", setting, path));
  ::fcntl(fd.get(), F_SETFL, O_APPEND);
  return fd;
}

Result<LogFiles> LogFiles::open(const Settings& settings) {
  LogFiles files;
  if (!settings.log_file.empty()) {
    auto fd = open_file("log_file", settings.log_file);
    if (!fd) return std::move(fd).error();
    files.log_ = {std::move(*fd), absolute(settings.log_file)};
  }
  if (settings.access_log == "-") {
    files.access_.fd.reset(::fcntl(1, F_DUPFD_CLOEXEC, 3));
  } else if (is_file(settings.access_log)) {
    auto fd = open_file("access_log", settings.access_log);
    if (!fd) return std::move(fd).error();
    files.access_ = {std::move(*fd), absolute(settings.access_log)};
  }
  return files;
}

bool LogFiles::is_file(const std::string& access_log) {
  return !access_log.empty() && access_log != "-";
}

LogFiles LogFiles::adopt(const Settings& settings, UniqueFd log, UniqueFd access) {
  LogFiles files;
  files.log_ = {std::move(log), settings.log_file.empty() ? "" : absolute(settings.log_file)};
  files.access_ = {std::move(access),
                   is_file(settings.access_log) ? absolute(settings.access_log) : ""};
  return files;
}

Result<void> LogFiles::reopen() {
  UniqueFd log;
  UniqueFd access;
  if (has_log_file()) {
    auto fd = open_file("log_file", log_.path);
    if (!fd) return std::move(fd).error();
    log = std::move(*fd);
  }
  if (has_access_file()) {
    auto fd = open_file("access_log", access_.path);
    if (!fd) return std::move(fd).error();
    access = std::move(*fd);
  }
  if (log) ::dup3(log.get(), log_.fd.get(), O_CLOEXEC);
  if (access) ::dup3(access.get(), access_.fd.get(), O_CLOEXEC);
  return {};
}

}  // namespace mgr::manager
