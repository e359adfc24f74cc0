#include "worker/native/left_open.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace mgr::native {
namespace {

namespace fs = std::filesystem;

std::string read_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::set<std::string> threads() {
  std::set<std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/self/task", error)) {
    found.insert(entry.path().filename());
  }
  return found;
}

std::map<int, std::string> descriptors() {
  std::map<int, std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd", error)) {
    const fs::path target = fs::read_symlink(entry.path(), error);
    if (!error) found[std::stoi(entry.path().filename())] = target;
  }
  return found;
}

std::string name_of(const sockaddr_storage& address, socklen_t length) {
  char text[INET6_ADDRSTRLEN] = "";
  switch (address.ss_family) {
    case AF_INET: {
      const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
      ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
      return std::string(text) + ":" + std::to_string(ntohs(v4.sin_port));
    }
    case AF_INET6: {
      const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
      ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
      return "[" + std::string(text) + "]:" + std::to_string(ntohs(v6.sin6_port));
    }
    case AF_UNIX: {
      const auto& path = reinterpret_cast<const sockaddr_un&>(address).sun_path;
      const std::size_t size = length - offsetof(sockaddr_un, sun_path);
      if (size == 0 || length < offsetof(sockaddr_un, sun_path)) return {};
      return path[0] ? "unix:" + std::string(path) : "unix:@" + std::string(path + 1, size - 1);
    }
    default:
      return {};
  }
}

// Empty where it need not be told: a socketpair has no names.
std::string describe_socket(int fd) {
  int listens = 0;
  socklen_t size = sizeof listens;
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0) return {};
  if (listens) {
    return ::getsockname(fd, raw, &length) == 0 ? "listening socket " + name_of(address, length)
                                                : std::string();
  }
  if (::getpeername(fd, raw, &length) != 0) return {};
  const std::string peer = name_of(address, length);
  return peer.empty() ? peer : "connected socket to " + peer;
}

std::string describe(int fd, const std::string& target) {
  if (target == "anon_inode:[eventpoll]") return "epoll descriptor " + std::to_string(fd);
  return target.starts_with("socket:") ? describe_socket(fd) : std::string();
}

}  // namespace

LeftOpen::LeftOpen() : threads_(threads()), descriptors_(descriptors()) {}

std::vector<std::string> LeftOpen::since() const {
  std::vector<std::string> found;
  for (const std::string& id : threads()) {
    if (threads_.contains(id)) continue;
    found.push_back("thread '" + read_line(fs::path("/proc/self/task") / id / "comm") + "'");
  }
  for (const auto& [fd, target] : descriptors()) {
    const auto before = descriptors_.find(fd);
    if (before != descriptors_.end() && before->second == target) continue;
    if (std::string phrase = describe(fd, target); !phrase.empty()) found.push_back(phrase);
  }
  return found;
}

}  // namespace mgr::native
