#pragma once

#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/unique_fd.h"
#include "tests/tools/load/connection.h"
#include "tests/tools/load/options.h"
#include "tests/tools/load/report.h"

namespace mgr::load {

// Makes requests when they are due, gives them to connections, and sees that each is accounted for
// exactly once: ok, or one kind of loss. One thread. Latency counts from the due time, so a server
// that stalls can't hide it by stalling the client.
class Load : private ConnectionOwner {
 public:
  explicit Load(const Options& options);

  // Until everything that became due is accounted for. `*stop` ends the sending of new requests;
  // it is set by a signal handler.
  void run(const volatile int* stop);
  const Report& report() const { return report_; }

 private:
  void on_response(const Outstanding& request, const ResponseParser& response,
                   const Connection& connection) override;
  void on_loss(const Outstanding& request, Loss kind, std::uint64_t bytes_seen,
               const std::string& error, const Connection& connection) override;
  void on_resend(const Outstanding& request) override;
  void on_stray_bytes(const Connection& connection) override;
  void on_closed(Connection& connection, End end) override;

  bool sending_over(Clock::time_point now) const;
  void make_due(Clock::time_point now);
  void dispatch();
  bool dispatch_fresh(const Outstanding& request);
  bool dispatch_kept(const Outstanding& request);
  // An open connection of the pool with room, or null.
  Connection* find_kept(const Outstanding& request, bool& lost);
  // Null when connecting failed at once: then the request has been counted as lost.
  Connection* open_connection(const Outstanding& request, int slot);
  void expire(Clock::time_point now);
  void wait(Clock::time_point now);
  std::string render(const Outstanding& request) const;
  std::string id_of(const Outstanding& request) const;

  const Options& options_;
  Report report_;
  UniqueFd epoll_;
  std::unordered_map<Connection*, std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Connection>> ended_;  // freed when no event can name them any more
  std::vector<Connection*> pool_;                   // mode `keep`
  std::size_t next_slot_ = 0;
  std::deque<Outstanding> waiting_;  // due, on no connection
  std::uint64_t in_hand_ = 0;        // on a connection
  std::uint64_t made_ = 0;
  std::string before_id_;
  std::string after_id_;
  bool has_id_ = false;
  Clock::time_point begun_;
  Clock::time_point next_expiry_;
  bool announced_ = false;
};

}  // namespace mgr::load
