#pragma once

#include <chrono>
#include <optional>

#include "common/loop/event_loop.h"

namespace mgr {

// For a loop that another loop turns, which watches its backend_fd(): when the next turn is due,
// though that descriptor says nothing. Zero: at once (changes to what is watched reach the
// descriptor in the next turn); nullopt: only the descriptor can bring something.
std::optional<std::chrono::milliseconds> time_to_next_turn(const EventLoop& loop);

}  // namespace mgr
