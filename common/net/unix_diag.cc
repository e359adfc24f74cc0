#include "common/net/unix_diag.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdint>
#include <cstring>

#include "common/base/unique_fd.h"

namespace mgr::net {
namespace {

constexpr unsigned kUnconnected = 7;  // the kernel's TCP_CLOSE

// A question to the kernel; nothing: it cannot be asked.
UniqueFd ask(unix_diag_req request, std::uint16_t flags) {
  UniqueFd netlink(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  struct {
    nlmsghdr header;
    unix_diag_req request;
  } question{};
  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  request.sdiag_family = AF_UNIX;
  request.udiag_cookie[0] = request.udiag_cookie[1] = ~0u;
  question.request = request;
  if (!netlink || ::send(netlink.get(), &question, sizeof question, 0) < 0) return {};
  return netlink;
}

struct Answer {
  std::optional<int> queued;
  std::optional<UnixDiagnosis::File> file;
};

Answer read_answer(const nlmsghdr& header) {
  Answer answer;
  auto left = static_cast<int>(header.nlmsg_len - NLMSG_LENGTH(sizeof(unix_diag_msg)));
  const auto* attribute = reinterpret_cast<const rtattr*>(
      static_cast<const char*>(NLMSG_DATA(&header)) + NLMSG_ALIGN(sizeof(unix_diag_msg)));
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type == UNIX_DIAG_RQLEN) {
      unix_diag_rqlen queue{};
      std::memcpy(&queue, RTA_DATA(attribute), sizeof queue);
      answer.queued = static_cast<int>(queue.udiag_rqueue);
    } else if (attribute->rta_type == UNIX_DIAG_VFS) {
      unix_diag_vfs file{};
      std::memcpy(&file, RTA_DATA(attribute), sizeof file);
      answer.file = UnixDiagnosis::File{file.udiag_vfs_dev, file.udiag_vfs_ino};
    }
  }
  return answer;
}

// The socket that a path names now.
std::optional<UnixDiagnosis::File> file_at(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return {};
  constexpr unsigned kMinorBits = 20;  // the kernel's own dev_t
  return UnixDiagnosis::File{(major(info.st_dev) << kMinorBits) | minor(info.st_dev),
                             static_cast<unsigned>(info.st_ino)};
}

}  // namespace

std::optional<UnixDiagnosis> diagnose_unix(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return {};
  unix_diag_req request{};
  request.udiag_states = ~0u;
  request.udiag_ino = static_cast<std::uint32_t>(info.st_ino);
  request.udiag_show = UDIAG_SHOW_RQLEN | UDIAG_SHOW_VFS;
  const UniqueFd netlink = ask(request, 0);
  if (!netlink) return {};
  alignas(nlmsghdr) char buffer[512];
  const ssize_t length = ::recv(netlink.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
  if (length < 0 || !NLMSG_OK(header, static_cast<unsigned>(length)) ||
      header->nlmsg_type != SOCK_DIAG_BY_FAMILY) {
    return {};
  }
  const Answer answer = read_answer(*header);
  if (!answer.queued) return {};
  return UnixDiagnosis{*answer.queued, answer.file};
}

std::optional<bool> is_bound_to(int fd, const std::string& path) {
  const auto file = file_at(path);
  if (!file) return false;
  const auto found = diagnose_unix(fd);
  if (!found) return {};
  return found->file == file;
}

bool is_bound_without_listening(const std::string& path) {
  const auto file = file_at(path);
  if (!file) return false;
  unix_diag_req request{};
  request.udiag_states = 1u << kUnconnected;
  request.udiag_show = UDIAG_SHOW_VFS;
  const UniqueFd netlink = ask(request, NLM_F_DUMP);
  if (!netlink) return false;
  alignas(nlmsghdr) char buffer[32 * 1024];
  for (;;) {
    auto left = ::recv(netlink.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (left <= 0) return false;
    const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
    for (; NLMSG_OK(header, static_cast<unsigned>(left)); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY) return false;  // the end, or an error
      if (read_answer(*header).file == file) return true;
    }
  }
}

}  // namespace mgr::net
