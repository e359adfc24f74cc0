#pragma once

#include <sys/types.h>

#include <string>

#include "common/base/result.h"
#include "common/ipc/channel.h"
#include "common/ipc/messages.h"
#include "common/settings/account.h"

namespace mgr::manager {

// What a mold is started with. Descriptors are borrowed.
struct MoldStart {
  std::string program;  // path of mgr-worker
  int channel = -1;     // the mold's end
  int scoreboard = -1;
  int log = 2;
  int access_log = -1;  // -1: none
  const ipc::MoldOrder* order = nullptr;
  const Account* account = nullptr;  // whom it becomes; null: nobody else
};

// Forks and execs a mold in a process group of its own, with the descriptors of
// common/ipc/inherited.h and no others, default signal dispositions and an empty signal mask.
// An exec that fails is reported by the child on its channel as LoadFailed.
Result<pid_t> start_mold_process(const MoldStart& start);

// The directory of the worker's programs: ../libexec/mgr beside the directory of this executable.
std::string libexec_directory();

}  // namespace mgr::manager
