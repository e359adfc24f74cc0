#include "common/settings/account.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <charconv>

#include "common/settings/value.h"

namespace mgr {
namespace {

std::optional<unsigned> number(const std::string& text) {
  unsigned value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || rest != end) return {};
  return value;
}

const passwd* entry_of(const std::string& user) {
  if (const passwd* entry = ::getpwnam(user.c_str())) return entry;
  const auto uid = number(user);
  return uid ? ::getpwuid(*uid) : nullptr;
}

std::optional<gid_t> gid_of(const std::string& group) {
  if (const ::group* entry = ::getgrnam(group.c_str())) return entry->gr_gid;
  return number(group);
}

std::vector<gid_t> groups_of(const std::string& user, gid_t gid) {
  int count = 64;
  std::vector<gid_t> groups(static_cast<std::size_t>(count));
  if (::getgrouplist(user.c_str(), gid, groups.data(), &count) < 0) {
    groups.resize(static_cast<std::size_t>(count));
    if (::getgrouplist(user.c_str(), gid, groups.data(), &count) < 0) return {gid};
  }
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

Error problem(const char* setting, const std::string& value, std::string_view what) {
  return Error(settings::in_quotes(value) + std::string(what)).with(setting);
}

}  // namespace

Result<std::optional<Account>> find_account(const std::string& user, const std::string& group) {
  if (user.empty() && group.empty()) return std::optional<Account>();
  Account account{.uid = ::geteuid(), .gid = ::getegid(), .groups = {}, .name = {}, .home = {}};
  if (!user.empty()) {
    const passwd* entry = entry_of(user);
    const auto uid = number(user);
    if (entry) {
      account.uid = entry->pw_uid;
      account.gid = entry->pw_gid;
      account.name = entry->pw_name;
      account.home = entry->pw_dir;
    } else if (uid && !group.empty()) {
      account.uid = *uid;
      account.name = user;
      account.home = "/";
    } else if (uid) {
      return problem("user", user, " has no entry on this machine, so `group` must be given too");
    } else {
      return problem("user", user, " is no user of this machine");
    }
  }
  if (!group.empty()) {
    const auto gid = gid_of(group);
    if (!gid) return problem("group", group, " is no group of this machine");
    account.gid = *gid;
  }
  account.groups =
      account.name.empty() ? std::vector<gid_t>{account.gid} : groups_of(account.name, account.gid);
  if (account.uid == ::geteuid() && account.gid == ::getegid()) return std::optional<Account>();
  if (::geteuid() != 0) {
    return problem(user.empty() ? "group" : "user", user.empty() ? group : user,
                   ": only root can run the application as another");
  }
  return std::optional<Account>(std::move(account));
}

}  // namespace mgr
