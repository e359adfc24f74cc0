#pragma once

#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "common/base/log.h"
#include "common/base/unique_fd.h"
#include "common/loop/event_loop.h"
#include "common/server/server.h"

namespace mgr::server {

struct Accepted {
  UniqueFd fd;
  sockaddr_storage peer{};
  socklen_t peer_length = 0;
};

// Accepts from one listening socket, few at a time, so that a worker that dies takes little with
// it: one, and more only while more are found. When descriptors run out it sleeps, longer each
// time, and says so once.
//
// A socket that other processes watch too is registered with EPOLLEXCLUSIVE and moves to the tail
// of its wait queue after each accept (EPOLL_CTL_DEL and ADD), which wakes one process a connection
// and shares evenly. libuv has no such flag: it registers the socket in its own way first, and once
// its poll is over the registration is replaced behind its back. libuv must not change it after
// that (a MOD of an exclusive registration fails), so the watcher is only ever started once and
// destroyed.
class Listener {
 public:
  using OnAccept = std::function<void(Listener& listener, Accepted accepted)>;

  Listener(EventLoop& loop, const Log& log, UniqueFd fd, std::string address,
           Server::Sharing sharing, OnAccept on_accept);
  ~Listener();
  Listener(const Listener&) = delete;

  // Where its connections come to, as it is bound; none where each has to say it (a wildcard).
  const std::optional<Endpoint>& server() const { return server_; }
  // Its connections have TCP_NODELAY from it, or need none.
  bool gives_nodelay() const { return gives_nodelay_; }
  bool shared() const { return sharing_ == Server::Sharing::shared; }
  // One round of accept.
  void accept_some();
  // Leaves the queue alone until resume(); also from inside OnAccept.
  void pause();
  void resume();
  // Stops watching, then accepts to EAGAIN.
  void take_queue();
  void close_in_forked_child() noexcept { ::close(fd_.get()); }

 private:
  enum class Outcome { accepted, failed_one, none, exhausted };

  void look_at_address();
  void watch();
  void unwatch();
  void become_exclusive();
  bool reregister();
  Outcome accept_one();
  void sleep(int error);

  EventLoop& loop_;
  const Log& log_;
  UniqueFd fd_;
  std::string address_;
  std::optional<Endpoint> server_;
  bool gives_nodelay_ = true;
  Server::Sharing sharing_;
  OnAccept on_accept_;
  std::optional<FdWatcher> watcher_;
  // While libuv's own registration of a shared socket is to be replaced, which the first process
  // that has it would be woken by for every connection: the poll that registers must not wait.
  std::optional<TurnWatcher> turn_;
  std::optional<Wakeup> soon_;
  bool exclusive_ = false;
  int most_ = 1;  // in the next round
  bool paused_ = false;
  Timer awake_;
  std::chrono::milliseconds pause_{0};  // 0: not out of descriptors
};

}  // namespace mgr::server
