#include "manager/supervisor/privileges.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

namespace mgr::manager {
namespace {

constexpr std::array kKept{CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH,
                           CAP_FOWNER, CAP_KILL,         CAP_SETGID,
                           CAP_SETUID, CAP_SETPCAP,      CAP_NET_BIND_SERVICE};

using CapabilitySets = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

bool read_capabilities(CapabilitySets& sets) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capget, &header, sets.data()) == 0;
}

bool write_capabilities(const CapabilitySets& sets) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capset, &header, sets.data()) == 0;
}

// PR_CAPBSET_READ fails behind the last one that this kernel has.
template <typename Keep>
void reduce_bounding_set(Keep keep) {
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (!keep(capability)) ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
}

Error failed(const char* step) {
  return Error::from_errno(step);
}

}  // namespace

void keep_few_capabilities() {
  const auto kept = [](int capability) {
    return std::find(kKept.begin(), kKept.end(), capability) != kKept.end();
  };
  reduce_bounding_set(kept);
  CapabilitySets sets{};
  if (!read_capabilities(sets)) return;
  CapabilitySets mask{};
  for (const int capability : kKept) {
    mask[static_cast<std::size_t>(CAP_TO_INDEX(capability))].permitted |= CAP_TO_MASK(capability);
  }
  for (std::size_t i = 0; i < sets.size(); ++i) {
    sets[i].permitted &= mask[i].permitted;
    sets[i].effective &= mask[i].permitted;
    sets[i].inheritable = 0;
  }
  write_capabilities(sets);
}

void drop_capabilities() {
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  CapabilitySets sets{};
  if (!read_capabilities(sets)) return;
  for (auto& set : sets) set.inheritable = 0;
  write_capabilities(sets);
}

Result<void> become(const Account& account) {
  const bool root = account.uid == 0;
  if (!root) reduce_bounding_set([](int) { return false; });
  if (::setgroups(account.groups.size(), account.groups.data()) != 0) return failed("setgroups");
  if (::setresgid(account.gid, account.gid, account.gid) != 0) return failed("setgid");
  if (::setresuid(account.uid, account.uid, account.uid) != 0) return failed("setuid");
  if (!root) {
    if (!write_capabilities(CapabilitySets{})) return failed("capset");
    if (::setuid(0) == 0) return Error("setuid: root's rights are still there");
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed("no_new_privs");
  }
  if (account.name.empty()) return {};
  ::setenv("HOME", account.home.c_str(), 1);
  ::setenv("USER", account.name.c_str(), 1);
  ::setenv("LOGNAME", account.name.c_str(), 1);
  return {};
}

}  // namespace mgr::manager
