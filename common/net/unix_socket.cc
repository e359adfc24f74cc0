#include "common/net/unix_socket.h"

#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstring>

#include "common/net/address.h"
#include "common/net/unix_diag.h"

namespace mgr::net {
namespace {

bool is_live(const UnixAddress& address) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // A full queue is a sign of life too.
  return ::connect(probe.get(), address.get(), address.length) == 0 || errno == EAGAIN;
}

Result<gid_t> group_id(const std::string& group) {
  unsigned number = 0;
  const auto [end, error] = std::from_chars(group.data(), group.data() + group.size(), number);
  if (error == std::errc{} && end == group.data() + group.size()) return static_cast<gid_t>(number);
  const struct group* entry = ::getgrnam(group.c_str());
  if (!entry) return Error("no group '" + group + "'");
  return entry->gr_gid;
}

Result<void> bind_path(int fd, const std::string& path, const UnixSocketOptions& options) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0 && !S_ISSOCK(info.st_mode)) {
    return Error("a file that is no socket is in the way");
  }
  std::string temporary = path + "." + std::to_string(::getpid());
  auto address = make_unix_address(temporary);
  if (!address) {
    // Too long for it: for a moment nothing is there.
    temporary = path;
    address = make_unix_address(path);
  }
  if (!address) return std::move(address).error();
  ::unlink(temporary.c_str());
  const mode_t mask = ::umask(0777 & ~static_cast<mode_t>(options.mode));
  const int bound = ::bind(fd, address->get(), address->length);
  const int error = errno;
  ::umask(mask);
  if (bound != 0) return Error(std::strerror(error), error);
  auto dressed = dress_unix_socket(temporary, options);
  if (dressed && options.backlog > 0 && ::listen(fd, options.backlog) != 0) {
    dressed = Error::from_errno("listen");
  }
  if (dressed && ::rename(temporary.c_str(), path.c_str()) != 0)
    dressed = Error::from_errno("rename");
  if (!dressed) ::unlink(temporary.c_str());
  return dressed;
}

}  // namespace

Result<void> dress_unix_socket(const std::string& path, const UnixSocketOptions& options) {
  if (!options.group.empty()) {
    auto group = group_id(options.group);
    if (!group) return std::move(group).error();
    if (::chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
      return Error::from_errno("group " + options.group);
    }
  }
  if (::chmod(path.c_str(), static_cast<mode_t>(options.mode)) != 0)
    return Error::from_errno("mode");
  return {};
}

Result<UniqueFd> bind_unix_socket(const std::string& address, const UnixSocketOptions& options) {
  auto wanted = make_unix_address(address);
  if (!wanted) return std::move(wanted).error();
  const bool is_path = address.front() != '@';
  // One that does not listen yet is somebody's who loads an application.
  const bool taken = is_live(*wanted) || (is_path && is_bound_without_listening(address));
  if (taken) return Error(std::strerror(EADDRINUSE), EADDRINUSE);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::from_errno("socket");
  if (is_path) {
    auto bound = bind_path(fd.get(), address, options);
    if (!bound) return std::move(bound).error();
    return fd;
  }
  if (::bind(fd.get(), wanted->get(), wanted->length) != 0)
    return Error(std::strerror(errno), errno);
  if (options.backlog > 0 && ::listen(fd.get(), options.backlog) != 0) {
    return Error::from_errno("listen");
  }
  return fd;
}

}  // namespace mgr::net
