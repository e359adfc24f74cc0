#pragma once

#include <functional>
#include <string>

#include "common/base/log.h"
#include "common/loop/event_loop.h"
#include "common/settings/settings.h"
#include "manager/supervisor/change_watcher.h"
#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {

// The setting `reload_on_change`: an ordinary reload when source files have changed. A change
// during a reload is followed by another; one that fails is followed by the next change.
class AutoReload {
 public:
  // `loop` and `log` must outlive it.
  AutoReload(EventLoop& loop, const Log& log, std::function<void(Done)> reload);

  // Watches the files of these settings.
  void watch(const Settings& settings);
  // Somebody's reload is over.
  void reload_ended();

 private:
  void on_change(const std::string& first, int more);

  const Log& log_;
  std::function<void(Done)> reload_;
  bool again_ = false;  // something has changed during a reload
  ChangeWatcher watcher_;
};

}  // namespace mgr::manager
