#include "manager/supervisor/events.h"

namespace mgr::manager {

std::string_view to_string(EventKind kind) {
  switch (kind) {
    case EventKind::ready:
      return "ready";
    case EventKind::generation_loaded:
      return "generation_loaded";
    case EventKind::mold_failed:
      return "mold_failed";
    case EventKind::worker_ready:
      return "worker_ready";
    case EventKind::worker_recycled:
      return "worker_recycled";
    case EventKind::worker_hung:
      return "worker_hung";
    case EventKind::worker_left:
      return "worker_left";
    case EventKind::worker_died:
      return "worker_died";
    case EventKind::reload_begun:
      return "reload_begun";
    case EventKind::reload_finished:
      return "reload_finished";
    case EventKind::reload_rolled_back:
      return "reload_rolled_back";
    case EventKind::reload_refused:
      return "reload_refused";
    case EventKind::restart_begun:
      return "restart_begun";
    case EventKind::restart_finished:
      return "restart_finished";
    case EventKind::scaled:
      return "scaled";
    case EventKind::drained:
      return "drained";
    case EventKind::undrained:
      return "undrained";
    case EventKind::stopping:
      return "stopping";
    case EventKind::stopped:
      return "stopped";
  }
  return "?";
}

}  // namespace mgr::manager
