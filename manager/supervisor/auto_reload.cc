#include "manager/supervisor/auto_reload.h"

#include <utility>

namespace mgr::manager {

AutoReload::AutoReload(EventLoop& loop, const Log& log, std::function<void(Done)> reload)
    : log_(log),
      reload_(std::move(reload)),
      watcher_(loop, log, [this](const std::string& first, int more) { on_change(first, more); }) {}

void AutoReload::watch(const Settings& settings) {
  const SourceFiles sources = source_files_of(settings);
  if (sources != watcher_.watched()) watcher_.watch(sources);
}

void AutoReload::on_change(const std::string& first, int more) {
  if (!first.empty()) {
    log_.info("changed: {}{}", first, more > 0 ? fmt::format(" and {} more", more) : "");
  }
  reload_([this](const Outcome& outcome) {
    if (outcome.conflict) again_ = true;
  });
}

// Not at once: the life cycle still counts the one that ends as under way.
void AutoReload::reload_ended() {
  if (std::exchange(again_, false)) watcher_.remind();
}

}  // namespace mgr::manager
