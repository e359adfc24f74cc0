#include "common/loop/embedded.h"

#include <uv.h>

namespace mgr {
namespace {

// libuv keeps changes to what is watched until its next wait, and says so by uv_backend_timeout()
// only since 1.45. The queue is a ring: its first link is that to the next, in every version.
bool changes_wait(const uv_loop_t& loop) {
  const void* const ring = &loop.watcher_queue;
  return *static_cast<const void* const*>(ring) != ring;
}

}  // namespace

std::optional<std::chrono::milliseconds> time_to_next_turn(const EventLoop& loop) {
  if (changes_wait(*loop.raw())) return std::chrono::milliseconds(0);
  const int timeout = uv_backend_timeout(loop.raw());
  if (timeout < 0) return std::nullopt;
  return std::chrono::milliseconds(timeout);
}

}  // namespace mgr
