#include "common/server/server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "common/server/context.h"
#include "common/server/http1_connection.h"
#include "common/server/http1_exchange.h"
#include "common/server/listener.h"

namespace mgr::server {

ServerOptions ServerOptions::from(const Settings& settings) {
  ServerOptions options;
  options.header_timeout = settings.header_timeout;
  options.body_timeout = settings.body_timeout;
  options.write_timeout = settings.write_timeout;
  options.request_timeout = settings.request_timeout;
  options.keep_alive = settings.keep_alive;
  options.limit_request_line = static_cast<std::size_t>(settings.limit_request_line);
  options.limit_headers = static_cast<std::size_t>(settings.limit_headers);
  options.limit_header_size = static_cast<std::size_t>(settings.limit_header_size);
  options.limit_body = static_cast<std::uint64_t>(settings.limit_body);
  options.forwarded = settings.forwarded;
  options.forwarded_trust = settings.forwarded_trust;
  options.trusted_proxies = settings.trusted_proxies;
  options.server_header = settings.server_header;
  options.date_header = settings.date_header;
  options.headers = settings.headers;
  return options;
}

struct Server::Impl {
  Impl(EventLoop& on_loop, const ServerOptions& options, Application& application,
       ipc::WorkerRecord& counters, const Log& to)
      : loop(on_loop),
        log(to),
        limit_connections(options.limit_connections),
        context(on_loop, options, application, counters, to),
        idle_timer(on_loop, [this] { tell_idle(); }) {
    context.on_one_gone = [this] { one_gone(); };
  }
  ~Impl() {
    context.on_one_gone = [] {};
  }

  void accept(const Listener& listener, Accepted accepted);
  PeerRef describe(const Listener& listener, const Accepted& accepted) const;
  bool idle() const {
    return context.connections.size() == 0 && context.exchanges->in_flight() == 0;
  }
  bool full() const {
    return limit_connections > 0 && context.connections.size() >= limit_connections;
  }
  void one_gone();
  void tell_idle();

  EventLoop& loop;
  const Log& log;
  std::size_t limit_connections;
  Context context;
  Timer idle_timer;
  bool draining = false;
  std::function<void()> on_idle;
  std::map<std::uint64_t, std::unique_ptr<Listener>> listeners;
};

void Server::Impl::accept(const Listener& listener, Accepted accepted) {
  context.connections.sweep();
  PeerRef peer = describe(listener, accepted);
  if (!listener.gives_nodelay()) {
    const int on = 1;
    ::setsockopt(accepted.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  context.connections.add(
      std::make_unique<Http1Connection>(context, std::move(accepted.fd), std::move(peer)));
  bump(context.counters.connections_total);
  set(context.counters.connections, context.connections.size());
  if (!full()) return;
  for (const auto& [id, one] : listeners) one->pause();
}

PeerRef Server::Impl::describe(const Listener& listener, const Accepted& accepted) const {
  auto* peer = new Peer;
  PeerRef owned(peer);
  peer->trusted = context.forwarded.trusts_peer(accepted.peer);
  peer->client = to_endpoint(accepted.peer, accepted.peer_length);
  if (listener.server()) {
    peer->server = *listener.server();
  } else {
    sockaddr_storage own{};
    socklen_t length = sizeof own;
    if (::getsockname(accepted.fd.get(), reinterpret_cast<sockaddr*>(&own), &length) == 0) {
      peer->server = to_endpoint(own, length);
    }
  }
  if (accepted.peer.ss_family == AF_UNIX) {
    ucred credentials{};
    socklen_t length = sizeof credentials;
    if (::getsockopt(accepted.fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0) {
      peer->uid = credentials.uid;
      peer->gid = credentials.gid;
      peer->pid = credentials.pid;
    }
  }
  return owned;
}

void Server::Impl::one_gone() {
  set(context.counters.connections, context.connections.size());
  if (!full()) {
    for (const auto& [id, listener] : listeners) listener->resume();
  }
  if (on_idle && idle()) idle_timer.start(std::chrono::milliseconds(0));
}

void Server::Impl::tell_idle() {
  if (!on_idle || !idle()) return;
  const auto call = std::exchange(on_idle, nullptr);
  call();
}

Server::Server(EventLoop& loop, ServerOptions options, Application& application,
               ipc::WorkerRecord& counters, const Log& log)
    : impl_(std::make_unique<Impl>(loop, options, application, counters, log)) {}

Server::~Server() = default;

void Server::add_listener(std::uint64_t id, UniqueFd listener, std::string address,
                          Sharing sharing) {
  CHECK(!has_listener(id));
  impl_->listeners[id] =
      std::make_unique<Listener>(impl_->loop, impl_->log, std::move(listener), std::move(address),
                                 sharing, [impl = impl_.get()](Listener& from, Accepted accepted) {
                                   impl->accept(from, std::move(accepted));
                                 });
  if (impl_->full()) impl_->listeners[id]->pause();
}

void Server::remove_listener(std::uint64_t id, Queued queued) {
  const auto found = impl_->listeners.find(id);
  if (found == impl_->listeners.end()) return;
  const std::unique_ptr<Listener> listener = std::move(found->second);
  impl_->listeners.erase(found);
  if (queued == Queued::take || listener->shared()) listener->take_queue();
}

void Server::remove_all_listeners(Queued queued) {
  while (!impl_->listeners.empty()) remove_listener(impl_->listeners.begin()->first, queued);
}

bool Server::has_listener(std::uint64_t id) const {
  return impl_->listeners.contains(id);
}

void Server::try_accept() {
  for (const auto& [id, listener] : impl_->listeners) {
    if (listener->shared()) listener->accept_some();
  }
}

void Server::close_after_response() {
  impl_->context.closing = true;
}

void Server::keep_after_response() {
  if (!impl_->draining) impl_->context.closing = false;
}

void Server::drain(std::function<void()> on_idle) {
  close_after_response();
  impl_->draining = true;
  impl_->on_idle = std::move(on_idle);
  impl_->one_gone();
}

void Server::part_from_idle() {
  for (const auto& connection : impl_->context.connections.open()) connection->part();
}

void Server::close_connections() {
  while (impl_->context.connections.size() > 0) impl_->context.connections.open().back()->cut();
}

void Server::close_in_forked_child() noexcept {
  for (const auto& [id, listener] : impl_->listeners) listener->close_in_forked_child();
  for (const auto& connection : impl_->context.connections.open()) {
    connection->close_in_forked_child();
  }
  // The epoll set is the parent's too: no destructor may touch it.
  (void)impl_.release();
}

std::size_t Server::connections() const {
  return impl_->context.connections.size();
}
std::size_t Server::in_flight() const {
  return impl_->context.exchanges->in_flight();
}

}  // namespace mgr::server
