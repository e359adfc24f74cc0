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

std::optional<UnixDiagnosis> diagnose_unix(int fd) {
  struct stat info {};
  const UniqueFd netlink(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink || ::fstat(fd, &info) != 0) return {};
  struct {
    nlmsghdr header;
    unix_diag_req request;
  } question{};
  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.header.nlmsg_flags = NLM_F_REQUEST;
  question.request.sdiag_family = AF_UNIX;
  question.request.udiag_states = ~0u;
  question.request.udiag_ino = static_cast<std::uint32_t>(info.st_ino);
  question.request.udiag_show = UDIAG_SHOW_RQLEN | UDIAG_SHOW_VFS;
  question.request.udiag_cookie[0] = question.request.udiag_cookie[1] = ~0u;
  if (::send(netlink.get(), &question, sizeof question, 0) < 0) return {};
  alignas(nlmsghdr) char answer[512];
  const ssize_t length = ::recv(netlink.get(), answer, sizeof answer, MSG_DONTWAIT);
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
  if (length < 0 || !NLMSG_OK(header, static_cast<unsigned>(length)) ||
      header->nlmsg_type != SOCK_DIAG_BY_FAMILY) {
    return {};
  }
  UnixDiagnosis found;
  bool queue_known = false;
  auto left = static_cast<int>(header->nlmsg_len - NLMSG_LENGTH(sizeof(unix_diag_msg)));
  const auto* attribute = reinterpret_cast<const rtattr*>(
      static_cast<const char*>(NLMSG_DATA(header)) + NLMSG_ALIGN(sizeof(unix_diag_msg)));
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type == UNIX_DIAG_RQLEN) {
      unix_diag_rqlen queue{};
      std::memcpy(&queue, RTA_DATA(attribute), sizeof queue);
      found.queued = static_cast<int>(queue.udiag_rqueue);
      queue_known = true;
    } else if (attribute->rta_type == UNIX_DIAG_VFS) {
      unix_diag_vfs file{};
      std::memcpy(&file, RTA_DATA(attribute), sizeof file);
      found.file = UnixDiagnosis::File{file.udiag_vfs_dev, file.udiag_vfs_ino};
    }
  }
  if (!queue_known) return {};
  return found;
}

std::optional<bool> is_bound_to(int fd, const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return false;
  const auto found = diagnose_unix(fd);
  if (!found) return {};
  constexpr unsigned kMinorBits = 20;  // the kernel's own dev_t
  const unsigned device = (major(info.st_dev) << kMinorBits) | minor(info.st_dev);
  return found->file && found->file->inode == static_cast<unsigned>(info.st_ino) &&
         found->file->device == device;
}

}  // namespace mgr::net
