#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace mgr {

// As whom the application runs: what the settings `user` and `group` mean on this machine.
struct Account {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary ones
  std::string name;           // empty where only the group is another
  std::string home;
};

// `user` and `group` are names or numbers; empty: unchanged. Nothing where the application runs as
// who we are already. Errors name the setting: not known here, or only root may do that.
Result<std::optional<Account>> find_account(const std::string& user, const std::string& group);

}  // namespace mgr
