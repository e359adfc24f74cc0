#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/server/access_log.h"
#include "common/server/deadlines.h"
#include "common/server/forwarded.h"
#include "common/server/head_parser.h"
#include "common/server/response_head.h"
#include "common/server/server.h"

namespace mgr::server {

class ExchangePool;
class Http1Connection;

// Reading stops when so much of a body is unconsumed, and `full` is said when so much is unsent.
inline constexpr std::size_t kHighWater = 64 * 1024;
// on_drain comes below this.
inline constexpr std::size_t kLowWater = 16 * 1024;
// A complete response that leaves more of a request's body unread ends the connection, and says so.
inline constexpr std::size_t kMostDrained = 64 * 1024;

// The open connections of a server, and those that have closed and may still be on the call stack.
class Connections {
 public:
  Connections();
  ~Connections();
  void add(std::unique_ptr<Http1Connection> connection);
  // Moves it to the closed ones, which sweep() destroys.
  void retire(Http1Connection& connection);
  // Only where no method of a connection is running.
  void sweep();
  std::size_t size() const { return open_.size(); }
  const std::vector<std::unique_ptr<Http1Connection>>& open() const { return open_; }

 private:
  std::vector<std::unique_ptr<Http1Connection>> open_;  // each knows its index
  std::vector<std::unique_ptr<Http1Connection>> closed_;
};

// What the parts of one server share. Owned by it; outlives its connections.
struct Context {
  Context(EventLoop& loop, const ServerOptions& options, Application& application,
          ipc::WorkerRecord& counters, const Log& log);
  ~Context();

  EventLoop& loop;
  Application& application;
  ipc::WorkerRecord& counters;
  const Log& log;
  HeadLimits limits;
  std::uint64_t limit_body;
  Deadlines deadlines;
  ForwardedPolicy forwarded;
  ResponseHeads heads;
  AccessLog access_log;
  std::function<ServerOptions::Message(int status, std::string_view reason)> describe_refusal;
  std::vector<char> read_buffer;  // for all reads: only one connection reads at a time
  std::shared_ptr<ExchangePool> exchanges;
  Connections connections;
  bool closing = false;               // responses say `Connection: close`
  std::function<void()> on_one_gone;  // a connection has closed or an exchange was released
};

using ipc::bump;
using ipc::set;
void count_request(ipc::WorkerRecord& counters, int status);

}  // namespace mgr::server
