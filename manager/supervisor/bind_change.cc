#include "manager/supervisor/bind_change.h"

#include <utility>

namespace mgr::manager {
namespace {

constexpr std::chrono::milliseconds kLookEvery{100};

}  // namespace

BindChange::BindChange(EventLoop& loop, Listeners& listeners, std::function<void()> on_sockets)
    : loop_(loop),
      listeners_(listeners),
      on_sockets_(std::move(on_sockets)),
      timer_(loop, [this] { look(); }) {}

Result<void> BindChange::prepare(const std::vector<net::BindAddress>& addresses) {
  auto prepared = listeners_.prepare(addresses);
  prepared_ = prepared.ok();
  return prepared;
}

void BindChange::finish(End end) {
  if (!std::exchange(prepared_, false)) return;
  if (end == End::dropped) return listeners_.abandon();
  loop_.update_now();
  listeners_.commit(loop_.now());
  timer_.start_repeating(kLookEvery);
}

void BindChange::go_on() {
  if (listeners_.leaving()) timer_.start_repeating(kLookEvery);
}

void BindChange::look() {
  const auto before = listeners_.sockets().size();
  if (!listeners_.close_left(loop_.now())) timer_.stop();
  if (listeners_.sockets().size() != before) on_sockets_();
}

}  // namespace mgr::manager
