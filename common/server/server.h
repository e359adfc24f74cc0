#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/log.h"
#include "common/base/unique_fd.h"
#include "common/ipc/scoreboard.h"
#include "common/loop/event_loop.h"
#include "common/server/exchange.h"
#include "common/settings/settings.h"

namespace mgr::server {

// What the server takes from the settings; durations of 0 switch a limit off.
struct ServerOptions {
  std::chrono::milliseconds header_timeout{10000};
  std::chrono::milliseconds body_timeout{30000};
  std::chrono::milliseconds write_timeout{60000};
  std::chrono::milliseconds keep_alive{5000};
  std::chrono::milliseconds request_timeout{0};
  std::size_t limit_request_line = 8190;
  std::size_t limit_headers = 100;
  std::size_t limit_header_size = 64 * 1024;
  std::uint64_t limit_body = 0;
  std::size_t limit_connections = 0;  // open at once; above it nothing is accepted
  ForwardedFamily forwarded = ForwardedFamily::off;
  std::vector<std::string> forwarded_trust;
  std::vector<std::string> trusted_proxies;
  bool server_header = true;
  bool date_header = true;
  std::map<std::string, std::string> headers;  // added to every response
  int access_log_fd = -1;                      // borrowed; -1: no access log
  struct Message {
    std::string type;  // Content-Type
    std::string body;
  };
  // What a request is answered with that never reaches the application, since it is malformed,
  // exceeds a limit or comes too slowly. Empty: `reason` as plain text.
  std::function<Message(int status, std::string_view reason)> refusal;

  static ServerOptions from(const Settings& settings);
};

// HTTP/1.1 on any number of listening sockets, on one loop. One thread.
// The loop, the application, the log and the counters must outlive it. The destructor closes
// everything at once. Exchanges that the application has not released by then are still valid until
// it releases them. It may not be destroyed from inside a call to the application or an observer.
class Server {
 public:
  Server(EventLoop& loop, ServerOptions options, Application& application,
         ipc::WorkerRecord& counters, const Log& log);
  ~Server();
  Server(const Server&) = delete;

  enum class Sharing {
    own,     // nobody else polls this socket: plain watch
    shared,  // other processes poll it too: EPOLLEXCLUSIVE, and rotation after each accept
  };
  // Accepts from a listening socket (the copy is owned). `id` is the caller's.
  // `address` is what the socket is bound to, as the configuration names it; it becomes
  // Request::server for Unix sockets (TCP: getsockname of the socket, or of the connection where
  // that is a wildcard).
  void add_listener(std::uint64_t id, UniqueFd listener, std::string address, Sharing sharing);
  enum class Queued { leave, take };
  // Stops accepting on it and closes the copy; `take`: first accepts what is queued, to EAGAIN.
  // Shared sockets are always removed from epoll first and then accepted from to EAGAIN.
  void remove_listener(std::uint64_t id, Queued queued);
  void remove_all_listeners(Queued queued);
  bool has_listener(std::uint64_t id) const;
  // One round of accept on every shared listener (a wake-up may have been lost).
  void try_accept();

  // Every response from now on says `Connection: close`.
  void close_after_response();
  // They no longer do. Nothing once drain() was called.
  void keep_after_response();
  // close_after_response(), and on_idle is called (from a turn of the loop, once) when no
  // connection and no unreleased exchange is left. An idle connection is left to its ordinary
  // keep-alive timer, one that has sent nothing yet to its header timer (design: a drain adds no
  // race that idling did not have).
  void drain(std::function<void()> on_idle);
  // Finishes connections that are idle now after a second of silence at most: for the end of the
  // service, where nobody answers what their clients would send next. After drain().
  void part_from_idle();
  // Cuts every connection now (observers hear on_disconnect).
  void close_connections();

  // In a child that the application has forked: closes the copies of every listening socket and
  // connection, and nothing else (epoll is shared with the parent). Async-signal-safe. The server
  // is dead after it: only the destructor may follow.
  void close_in_forked_child() noexcept;

  std::size_t connections() const;
  std::size_t in_flight() const;  // unreleased exchanges

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace mgr::server
