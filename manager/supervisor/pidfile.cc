#include "manager/supervisor/pidfile.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace mgr::manager {
namespace {

bool is_at(int fd, const std::string& path) {
  struct stat ours {};
  struct stat there {};
  return ::fstat(fd, &ours) == 0 && ::stat(path.c_str(), &there) == 0 &&
         ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

std::string content(int fd) {
  char text[32];
  const ssize_t n = ::pread(fd, text, sizeof text, 0);
  const std::string_view read(text, n > 0 ? static_cast<std::size_t>(n) : 0);
  return std::string(read.substr(0, read.find_first_not_of("0123456789")));
}

Error failed(const std::string& path, std::string_view what) {
  return Error(fmt::format("pidfile: {}: {}", path, what));
}

Error failed(const std::string& path) {
  return Error::from_errno("pidfile: " + path);
}

}  // namespace

Result<PidFile> PidFile::take(const std::string& path) {
  std::error_code error;
  const std::string whole = std::filesystem::absolute(path, error).string();
  if (error) return failed(path, error.message());
  for (;;) {
    UniqueFd fd(::open(whole.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!fd) return failed(whole);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return failed(whole);
      const std::string holder = content(fd.get());
      return failed(
          whole, fmt::format("it runs already{}", holder.empty() ? "" : " (pid " + holder + ")"));
    }
    // Its last owner may have removed it between our two calls.
    if (!is_at(fd.get(), whole)) continue;
    const std::string line = fmt::format("{}\n", ::getpid());
    if (::ftruncate(fd.get(), 0) != 0 ||
        ::pwrite(fd.get(), line.data(), line.size(), 0) != static_cast<ssize_t>(line.size())) {
      return failed(whole);
    }
    return PidFile(std::move(fd), whole);
  }
}

PidFile::~PidFile() {
  if (fd_ && is_at(fd_.get(), path_)) ::unlink(path_.c_str());
}

}  // namespace mgr::manager
