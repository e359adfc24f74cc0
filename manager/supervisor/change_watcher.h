#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "common/base/log.h"
#include "common/base/unique_fd.h"
#include "common/loop/event_loop.h"
#include "manager/supervisor/source_files.h"

namespace mgr::manager {

// Watches source files by inotify(7), and calls back once they have been quiet for a moment: an
// editor, or a checkout, writes several at a time. Costs nothing while nothing changes.
class ChangeWatcher {
 public:
  // `first`: a file that has changed; `more`: how many others.
  using OnChange = std::function<void(const std::string& first, int more)>;
  // `loop` and `log` must outlive it.
  ChangeWatcher(EventLoop& loop, const Log& log, OnChange on_change);

  // These from now on. What can't be watched is a warning in the log.
  void watch(const SourceFiles& sources);
  const SourceFiles& watched() const { return sources_; }
  // Calls back again, soon: for changes that could not be acted on.
  void remind();

  static constexpr std::chrono::milliseconds kQuiet{100};
  static constexpr std::chrono::milliseconds kLongest{1000};  // that a change waits

 private:
  struct Directory {
    std::string path;
    bool tree = false;            // what is_source_name() counts, and so do its directories
    std::set<std::string> files;  // that count whatever they are called
  };
  Directory* add(const std::string& path);
  bool add_tree(const std::string& path);
  void read();
  void on_event(int watch, std::uint32_t mask, const std::string& name);
  void changed(const std::string& path);
  void fire();

  EventLoop& loop_;
  const Log& log_;
  OnChange on_change_;
  SourceFiles sources_;
  UniqueFd inotify_;
  std::optional<FdWatcher> watcher_;
  std::map<int, Directory> directories_;  // by watch descriptor
  Timer quiet_;
  std::set<std::string> changed_;
  std::chrono::milliseconds first_{0};  // when the oldest of them was seen, on the loop's clock
  bool warned_ = false;
};

}  // namespace mgr::manager
