#include "common/server/listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/server/address.h"

namespace mgr::server {
namespace {

constexpr int kAtOnce = 4;
constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::chrono::milliseconds kLongestPause{1000};

bool is_wildcard(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr == htonl(INADDR_ANY);
  }
  return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

}  // namespace

Listener::Listener(EventLoop& loop, const Log& log, UniqueFd fd, std::string address,
                   Server::Sharing sharing, OnAccept on_accept)
    : loop_(loop),
      log_(log),
      fd_(std::move(fd)),
      address_(std::move(address)),
      sharing_(sharing),
      on_accept_(std::move(on_accept)),
      awake_(loop, [this] {
        watch();
        accept_some();
      }) {
  look_at_address();
  watch();
}

Listener::~Listener() {
  unwatch();
}

void Listener::look_at_address() {
  sockaddr_storage own{};
  socklen_t length = sizeof own;
  if (::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&own), &length) != 0) return;
  if (own.ss_family == AF_UNIX) {
    const std::string_view path(address_);
    server_.emplace();
    server_->is_unix = true;
    server_->host = path.substr(path.starts_with("unix:") ? 5 : 0);
    return;
  }
  if (!is_wildcard(own)) server_ = to_endpoint(own, length);
  int on = 0;
  socklen_t size = sizeof on;
  ::getsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, &size);
  gives_nodelay_ = on != 0;
}

void Listener::watch() {
  watcher_.emplace(loop_, fd_.get(), [this](int status, int) {
    if (status < 0) return sleep(-status);  // libuv has stopped the watcher
    accept_some();
  });
  watcher_->start(FdWatcher::kReadable);
  if (!shared()) return;
  exclusive_ = false;
  turn_.emplace(
      loop_, [] {}, [this] { become_exclusive(); });
  soon_.emplace(loop_, [] {});
  soon_->unref();
  soon_->send();
}

void Listener::unwatch() {
  turn_.reset();
  soon_.reset();
  watcher_.reset();
}

// EPOLL_CTL_DEL and ADD; false when libuv has not registered the socket yet.
bool Listener::reregister() {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLEXCLUSIVE;
  event.data.fd = fd_.get();
  if (::epoll_ctl(loop_.backend_fd(), EPOLL_CTL_DEL, fd_.get(), &event) != 0) return false;
  CHECK(::epoll_ctl(loop_.backend_fd(), EPOLL_CTL_ADD, fd_.get(), &event) == 0);
  return true;
}

void Listener::become_exclusive() {
  if (!reregister()) return;
  exclusive_ = true;
  soon_.reset();
  turn_.reset();
}

Listener::Outcome Listener::accept_one() {
  Accepted accepted;
  accepted.peer_length = sizeof accepted.peer;
  accepted.fd = UniqueFd(::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&accepted.peer),
                                   &accepted.peer_length, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (accepted.fd) {
    pause_ = std::chrono::milliseconds(0);
    on_accept_(*this, std::move(accepted));
    return Outcome::accepted;
  }
  switch (errno) {
    case EAGAIN:
      return Outcome::none;
    // Errors of the connection that would have been accepted, and of the network (accept(2)).
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
      return Outcome::failed_one;
    default:
      return Outcome::exhausted;
  }
}

void Listener::pause() {
  paused_ = true;
  unwatch();
  awake_.stop();
}

void Listener::resume() {
  if (!std::exchange(paused_, false)) return;
  watch();
}

void Listener::accept_some() {
  for (int i = 0; i < most_ && !paused_; ++i) {
    switch (accept_one()) {
      case Outcome::accepted:
      case Outcome::failed_one:
        break;
      case Outcome::none:
        most_ = 1;
        return;
      case Outcome::exhausted:
        return sleep(errno);
    }
  }
  // A shared queue is left to the others after one.
  if (!shared()) most_ = std::min(2 * most_, kAtOnce);
  if (exclusive_ && watcher_) CHECK(reregister());
}

void Listener::sleep(int error) {
  if (pause_.count() == 0) {
    log_.error("accept on {}: {}; the listener pauses until there is room", address_,
               std::strerror(error));
  }
  pause_ = std::clamp(pause_ * 2, kFirstPause, kLongestPause);
  unwatch();
  awake_.start(pause_);
}

void Listener::take_queue() {
  unwatch();
  awake_.stop();
  for (;;) {
    const Outcome outcome = accept_one();
    if (outcome == Outcome::none || outcome == Outcome::exhausted) return;
  }
}

}  // namespace mgr::server
