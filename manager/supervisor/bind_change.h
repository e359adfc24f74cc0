#pragma once

#include <functional>
#include <vector>

#include "common/loop/event_loop.h"
#include "common/net/address.h"
#include "manager/supervisor/listeners.h"

namespace mgr::manager {

// A reload's change of `bind`: new addresses are bound when the reload begins, so that one that
// can't be refuses it; they listen, and old ones leave, when it is final; a reload that comes to
// nothing closes them again. Owned by the supervisor; what it is made with must outlive it.
class BindChange {
 public:
  // `on_sockets` is called when the listening sockets have changed, later than finish().
  BindChange(EventLoop& loop, Listeners& listeners, std::function<void()> on_sockets);

  // Errors: an address can't be bound; nothing has changed.
  Result<void> prepare(const std::vector<net::BindAddress>& addresses);
  enum class End { kept, dropped };
  void finish(End end);
  // After Listeners::restore(): goes on with what leaves.
  void go_on();

 private:
  void look();

  EventLoop& loop_;
  Listeners& listeners_;
  std::function<void()> on_sockets_;
  Timer timer_;  // while addresses leave
  bool prepared_ = false;
};

}  // namespace mgr::manager
