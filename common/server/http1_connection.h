#pragma once

#include <string>
#include <string_view>

#include "common/server/body_decoder.h"
#include "common/server/context.h"
#include "common/server/deadlines.h"
#include "common/server/head_parser.h"
#include "common/server/http1_exchange.h"
#include "common/server/peer.h"
#include "common/server/socket.h"

namespace mgr::server {

// One HTTP/1 connection: reads heads and bodies, one request at a time and in order.
// Owned by Connections; tells it with retire() when it has closed, and is destroyed later.
//
//   idle ──first byte──→ head ──complete──→ exchange ──response complete──→ idle
//                          │                    │  └──body unread──→ drain ──→ idle
//                          └──refused──┐        └──must close──┐      │
//                                      ├───────────────────────┴──────┘
//                                      ↓
//                                  finishing ──all sent, FIN──→ linger ──EOF or 1 s──→ closed
//                                      └──all sent, no more input to come──→ closed
//   Every state goes to `closed` when the peer is lost.
class Http1Connection final : private SocketOwner, private DeadlineOwner {
 public:
  Http1Connection(Context& context, UniqueFd fd, PeerRef peer);
  ~Http1Connection();
  Http1Connection(const Http1Connection&) = delete;

  std::size_t index = 0;  // in Connections

  // If it is idle: finishes after a second of silence at most, whatever keep_alive says.
  void part();
  // Cuts it at once.
  void cut();
  void close_in_forked_child() noexcept { socket_.close_in_forked_child(); }

  // ---- for its exchange
  Context& context() { return context_; }
  Socket::Status write(std::span<iovec> parts);
  Socket::Status write_file(std::span<iovec> parts, UniqueFd file, std::uint64_t offset,
                            std::uint64_t count);
  std::size_t unsent() const { return socket_.unsent(); }
  int fd() const { return socket_.fd(); }
  // Whether the connection may serve another request after a response that is complete (`more`
  // false) or will be.
  bool may_keep_alive(bool more) const;
  void body_consumed();
  void send_continue();
  void response_done(bool keep_alive);
  // The exchange ends without a complete response.
  void abort_exchange();
  void lost() { on_lost(); }

 private:
  enum class State { idle, head, exchange, drain, finishing, linger, closed };

  void on_readable() noexcept override;
  void on_writable() noexcept override;
  void on_lost() noexcept override;
  void on_deadline(DeadlineKind kind) noexcept override;

  bool wants_input() const;
  void read_some();
  std::string_view process(std::string_view input);
  std::string_view start_head(std::string_view input);
  void begin_head();
  void await_head();
  std::string_view read_head(std::string_view input);
  std::string_view read_body(std::string_view input);
  std::string_view drain_body(std::string_view input);
  bool over_limit_body() const;
  // `input_ends`: nothing after the head has come yet.
  void start_exchange(bool input_ends);
  void on_eof();
  void settle();
  void continue_reading();
  void await_body();
  void tell_late(const Request& request) const;
  void next_request(Deadlines::Clock::time_point now = Deadlines::Clock::now());
  void refuse(Refusal refusal);
  void break_body(Refusal refusal);
  void finish();
  void to_linger();
  Socket::Status written(std::size_t sent_before, Socket::Status status);
  void break_response();
  void end_broken(const Http1Exchange& exchange);
  void tell_bad_file();
  void close();
  // Counts and logs what ends now.
  void record_request(const Http1Exchange& exchange,
                      Deadlines::Clock::time_point now = Deadlines::Clock::now());
  void record_duration(const Http1Exchange& exchange, Deadlines::Clock::time_point now);
  void answer(Refusal refusal, AccessRecord record);

  Context& context_;
  PeerRef peer_;
  Socket socket_;
  Deadline reading_{*this};
  Deadline writing_{*this};
  Deadline answering_{*this};
  HeadParser parser_;
  BodyDecoder body_;
  State state_ = State::idle;
  Http1Exchange* exchange_ = nullptr;  // states head and exchange
  std::string pending_;                // input after the current request
  std::size_t pending_used_ = 0;
  std::uint64_t heads_begun_ = 0;
  std::size_t sent_at_eof_ = 0;
  std::uint64_t body_received_ = 0;
  bool continue_awaited_ = false;  // the client waits for `100 Continue`
  bool empty_line_begun_ = false;  // a CR has come where a request may begin
  bool eof_ = false;  // the client has ended its output, or has said that no more comes
  bool processing_ = false;
};

}  // namespace mgr::server
