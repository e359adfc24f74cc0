#include "manager/supervisor/inherited_sockets.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace mgr::manager {
namespace {

constexpr int kFirst = 3;  // SD_LISTEN_FDS_START
// A store may hold a socket of each slot of several addresses.
constexpr int kMost = 8192;

std::vector<std::string> split(const std::string& names) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (begin <= names.size()) {
    const std::size_t end = std::min(names.find(':', begin), names.size());
    parts.push_back(names.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

}  // namespace

InheritedSockets InheritedSockets::take_from_environment() {
  InheritedSockets sockets;
  const char* pid = std::getenv("LISTEN_PID");
  const char* count = std::getenv("LISTEN_FDS");
  const char* names = std::getenv("LISTEN_FDNAMES");
  if (pid && count && std::atoi(pid) == ::getpid()) {
    const auto named = split(names ? names : "");
    for (int i = 0; i < std::clamp(std::atoi(count), 0, kMost); ++i) {
      UniqueFd fd(kFirst + i);
      ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
      const auto index = static_cast<std::size_t>(i);
      const std::string name = index < named.size() ? named[index] : "";
      if (name.starts_with(kStoredPrefix)) {
        sockets.stored.push_back({name, std::move(fd)});
      } else if (name == "admin") {
        sockets.admin.push_back(std::move(fd));
      } else {
        sockets.listeners.push_back(std::move(fd));
      }
    }
  }
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  return sockets;
}

}  // namespace mgr::manager
