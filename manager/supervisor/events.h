#pragma once

#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>

namespace mgr::manager {

// What happens in a service's life, as `mgr events` and hooks name it.
enum class EventKind {
  ready,               // the service has started: workers
  generation_loaded,   // generation, interface, duration_ms
  mold_failed,         // generation, stage, error, retry_ms
  worker_ready,        // slot, pid, generation, boot_ms
  worker_recycled,     // slot, pid, generation, reason: another takes its place
  worker_hung,         // slot, pid, generation, reason: it is replaced, then ended
  worker_left,         // slot, pid, generation, how: it was told to
  worker_died,         // slot, pid, generation, how, retry_ms; stage, error where it told
  reload_begun,        // generation
  reload_finished,     // generation, duration_ms
  reload_rolled_back,  // generation, stage, error
  reload_refused,      // stage, error
  restart_begun,       // slots
  restart_finished,    // ok
  scaled,              // from, to
  drained,
  undrained,
  stopping,  // how: graceful, quick
  stopped,   // exit_status
};
std::string_view to_string(EventKind kind);
inline constexpr std::size_t kEventKinds = static_cast<std::size_t>(EventKind::stopped) + 1;

// `fields`: those that the kind's comment names; numbers, texts, or lists of numbers.
struct Event {
  EventKind kind;
  nlohmann::ordered_json fields = nlohmann::ordered_json::object();
};

using OnEvent = std::function<void(const Event&)>;

}  // namespace mgr::manager
