#include "manager/supervisor/control_socket.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/net/address.h"
#include "common/settings/cpus.h"

namespace mgr::manager {
namespace {

constexpr int kBacklog = 128;

bool is_live(const net::UnixAddress& address) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(probe.get(), address.get(), address.length) == 0 || errno == EAGAIN;
}

Result<void> give_to_group(const std::string& path, const std::string& group) {
  if (group.empty()) return {};
  const struct group* entry = ::getgrnam(group.c_str());
  if (!entry) return Error(fmt::format("control_group: no group '{}'", group));
  if (::chown(path.c_str(), static_cast<uid_t>(-1), entry->gr_gid) != 0) {
    return Error::from_errno("control_group: " + group);
  }
  return {};
}

Result<void> bind_to_path(int fd, const std::string& path, int mode, const std::string& group) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0 && !S_ISSOCK(info.st_mode)) {
    return Error(fmt::format("control: {}: a file that is no socket is in the way", path));
  }
  const std::string temporary = path + "." + std::to_string(::getpid());
  auto address = net::make_unix_address(temporary);
  if (!address) return std::move(address).error().with("control");
  ::unlink(temporary.c_str());
  const mode_t mask = ::umask(0777 & ~static_cast<mode_t>(mode));
  const int bound = ::bind(fd, address->get(), address->length);
  const int error = errno;
  ::umask(mask);
  if (bound != 0) return Error::from_errno("control: " + path, error);
  auto given = give_to_group(temporary, group);
  if (given && ::listen(fd, kBacklog) != 0) given = Error::from_errno("control: listen");
  if (given && ::rename(temporary.c_str(), path.c_str()) != 0) {
    given = Error::from_errno("control: " + path);
  }
  if (!given) ::unlink(temporary.c_str());
  return given;
}

}  // namespace

Result<UniqueFd> take_control_socket(const std::string& address, int mode, const std::string& group) {
  auto wanted = net::make_unix_address(address);
  if (!wanted) return std::move(wanted).error().with("control");
  if (is_live(*wanted)) {
    return Error(fmt::format("control: {}: another supervisor of this name runs already; give this "
                             "one another `name`, or stop the other", address));
  }
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::from_errno("control: socket");
  if (address.front() != '@') {
    auto bound = bind_to_path(fd.get(), address, group.empty() ? mode : mode | 0660, group);
    if (!bound) return std::move(bound).error();
    return fd;
  }
  if (::bind(fd.get(), wanted->get(), wanted->length) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    return Error::from_errno("control: " + address);
  }
  return fd;
}

int wanted_workers(const Settings& settings) {
  return settings.workers > 0 ? settings.workers
                              : automatic_workers(usable_cpus(), memory_limit(), 0);
}

}  // namespace mgr::manager
