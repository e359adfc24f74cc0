#include "common/base/read_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "common/base/unique_fd.h"

namespace mgr {
namespace {

bool is_inherited(const std::string& path) {
  return path == "/dev/stdin" || path.starts_with("/dev/fd/") || path.starts_with("/proc/self/fd/");
}

}  // namespace

Result<std::string> read_file(const std::string& path, const ReadFile& options) {
  // Without O_NONBLOCK, open() waits until somebody writes to a FIFO.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return Error::from_errno(options.shown);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return Error::from_errno(options.shown);
  if (S_ISDIR(info.st_mode)) return Error::from_errno(options.shown, EISDIR);
  if (!S_ISREG(info.st_mode) && path != "/dev/null") {
    if (options.pipes == Pipes::refused || !is_inherited(path))
      return Error(options.shown + ": is no regular file");
    ::fcntl(fd.get(), F_SETFL, 0);
  }
  std::string text;
  char buffer[16384];
  while (true) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno(options.shown);
    if (n == 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > options.most)
      return Error(fmt::format("{}: larger than {} MB", options.shown, options.most >> 20));
  }
}

}  // namespace mgr
