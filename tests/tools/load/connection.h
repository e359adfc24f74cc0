#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "common/base/unique_fd.h"
#include "tests/tools/load/options.h"
#include "tests/tools/load/report.h"
#include "tests/tools/load/response_parser.h"

namespace mgr::load {

// One request on its way.
struct Outstanding {
  std::uint64_t number = 0;
  Clock::time_point due;
  // Written while nothing was outstanding on a connection that had carried responses before.
  bool on_used_idle = false;
};

class Connection;

// Why a connection ended.
enum class End {
  idle,         // the server ended it while nothing was outstanding
  by_response,  // the server ended it after a response that had said so
  other,        // a loss, or the client's own wish
};

// Hears what becomes of each request; each is reported by exactly one of the first three calls.
class ConnectionOwner {
 public:
  virtual void on_response(const Outstanding& request, const ResponseParser& response,
                           const Connection& connection) = 0;
  virtual void on_loss(const Outstanding& request, Loss kind, std::uint64_t bytes_seen,
                       const std::string& error, const Connection& connection) = 0;
  // Pipelined behind a response that said `Connection: close`: to be sent on another connection.
  virtual void on_resend(const Outstanding& request) = 0;
  // The server sent bytes that nobody asked for.
  virtual void on_stray_bytes(const Connection& connection) = 0;
  // The last call about this connection; it may be freed once the call stack has unwound.
  virtual void on_closed(Connection& connection, End end) = 0;

 protected:
  ~ConnectionOwner() = default;
};

// One connection of the client. The owner and the epoll descriptor must outlive it.
class Connection {
 public:
  Connection(ConnectionOwner& owner, int epoll) : owner_(owner), epoll_(epoll) {}

  enum class State {
    connecting,
    open,
    closing,  // a response said `Connection: close`: only the end may follow
    closed,
  };

  // Begins to connect; 0, or the errno that prevented it (then the connection stays closed).
  int open(const Target& target);
  // `bytes` is the whole request.
  void send(Outstanding request, std::string_view bytes);
  // For an open connection without outstanding requests: sees an end that has arrived already, as
  // any careful client does before it writes again. False when the connection is closed now.
  bool still_open();
  void on_event(std::uint32_t events);
  // Loses what is overdue; a connection that holds something overdue is given up, and what is not
  // overdue on it is sent again.
  void expire(Clock::time_point now, Clock::duration timeout);
  // Closes without another word.
  void close(End end = End::other);

  State state() const { return state_; }
  std::size_t outstanding() const { return outstanding_.size(); }
  std::uint64_t responses() const { return responses_; }
  int local_port() const { return local_port_; }
  // When the state became `closing`.
  Clock::time_point closing_since() const { return closing_since_; }

  // For the owner: its place in a pool, -1 for none.
  int slot = -1;

 private:
  void on_connected();
  void flush();
  void read_input();
  void consume(std::string_view data);
  void finish_response();
  void on_end(int error);
  void lose_all(Loss front, Loss others, const std::string& error);
  void watch(std::uint32_t events);

  ConnectionOwner& owner_;
  int epoll_;
  UniqueFd fd_;
  State state_ = State::closed;
  std::uint32_t watched_ = 0;
  std::deque<Outstanding> outstanding_;
  std::string output_;
  ResponseParser parser_;
  std::uint64_t responses_ = 0;
  int local_port_ = 0;
  Clock::time_point closing_since_;
};

}  // namespace mgr::load
