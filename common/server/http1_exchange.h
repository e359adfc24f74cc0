#pragma once

#include <sys/uio.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/server/context.h"
#include "common/server/exchange.h"
#include "common/server/peer.h"
#include "common/server/request_head.h"

namespace mgr::server {

class ExchangePool;
class Http1Connection;

// One request of an HTTP/1 connection and its response. Comes from an ExchangePool and goes back to
// it by release(). The connection is attached from begin() until the response is complete or one of
// the two is lost.
//
// Response:  none → headed → flowing → complete
//                 └─────────┴────────→ lost        (the connection ended first)
class Http1Exchange final : public Exchange {
 public:
  explicit Http1Exchange(ExchangePool& pool) : pool_(pool) {}

  // ---- Exchange
  const Request& request() const override { return request_; }
  void set_observer(ExchangeObserver* observer) override { observer_ = observer; }
  std::string_view body() const override { return std::string_view(body_).substr(consumed_); }
  void consume(std::size_t bytes) override;
  bool body_complete() const override { return body_complete_; }
  void want_body() override;
  SendResult send_head(int status, std::span<const HeaderField> headers,
                       std::string_view reason = {}) override;
  SendResult send_body(std::string_view data, bool more) override;
  SendResult send_file(UniqueFd file, std::uint64_t offset, std::uint64_t count,
                       bool more) override;
  SendResult send_interim(int status, std::span<const HeaderField> headers) override;
  SendResult send_trailers(std::span<const HeaderField> fields, bool more) override;
  bool head_sent() const override { return state_ != State::none && status_ != 0; }
  bool head_flushed() const override { return head_flushed_; }
  bool response_complete() const override { return state_ == State::complete; }
  bool disconnected() const override { return state_ == State::lost; }
  bool input_ended() const override { return input_ended_; }
  void respond(int status, std::string_view content_type, std::string_view body) override;
  void abort() override;
  void time_out() override;
  std::int64_t peer_uid() const override { return peer_->uid; }
  std::int64_t peer_gid() const override { return peer_->gid; }
  pid_t peer_pid() const override { return peer_->pid; }
  int connection_fd() const override;
  void release() override;

  // ---- for the connection
  RequestHead& head() { return head_; }
  // The head is complete. `turn_began_ns`: when the loop's present turn began; 0: unknown.
  void begin(Http1Connection& connection, const PeerRef& peer, const ForwardedPolicy& policy,
             std::uint64_t turn_began_ns);
  std::uint64_t began_ns() const { return began_ns_; }
  void append_body(std::string_view data) { body_.append(data); }
  void end_body() { body_complete_ = true; }
  void tell_body();
  void tell_drain();
  void tell_timeout();
  void tell_input_end();
  bool sending_file() const { return file_ != File::none; }
  // The file that send_file() began is on its way as a whole.
  void file_sent();
  // The connection is gone, or the protocol is broken.
  void lose();
  // The same, by the application's own wish: it is not told.
  void forget_connection();
  bool until_close() const { return framing_ == Framing::until_close && state_ == State::flowing; }
  // What the access log says.
  AccessRecord access_record() const;
  int status() const { return head_flushed_ ? status_ : 0; }
  // Makes it ready for another request.
  void recycle();

 private:
  enum class State { none, headed, flowing, complete, lost };
  enum class Framing { none, length, chunked, until_close };
  enum class File { none, more_follows, last };  // what the socket is sending

  void apply_claim(const ForwardedPolicy& policy);
  void replace_host(std::string_view host, int port);
  bool bodyless() const;
  bool takes_trailers() const;
  void frame_head(std::uint64_t size, bool more);
  SendResult put(std::string_view data, bool more);
  SendResult put_file(UniqueFd file, std::uint64_t offset, std::uint64_t count, bool more);
  SendResult end_of_file();
  std::optional<std::uint64_t> length_left() const;
  SendResult contradict_length(SendResult how);
  SendResult sent_or_full();
  SendResult finish(SendResult result);

  ExchangePool& pool_;
  Http1Connection* connection_ = nullptr;
  PeerRef peer_;
  std::uint64_t began_ns_ = 0;
  ExchangeObserver* observer_ = nullptr;

  RequestHead head_;
  Request request_;
  Endpoint claimed_client_;
  Endpoint claimed_server_;
  std::string body_;
  std::size_t consumed_ = 0;
  bool body_complete_ = false;
  bool input_ended_ = false;

  State state_ = State::none;
  Framing framing_ = Framing::none;
  int status_ = 0;
  std::string head_out_;  // then the trailer fields
  ResponseFraming wanted_;
  std::uint64_t length_ = 0;  // of the body, with Framing::length
  std::uint64_t body_sent_ = 0;
  bool head_flushed_ = false;
  bool keep_alive_ = false;
  bool closing_ = false;  // whatever the rest says, `Connection: close`
  bool wants_drain_ = false;
  File file_ = File::none;
  bool trailing_ = false;  // the first of the trailer fields have come
};

// Makes exchanges and recycles them; those that are out belong to whoever has taken them. When the
// server is gone the pool stays until the last one is released.
class ExchangePool : public std::enable_shared_from_this<ExchangePool> {
 public:
  ExchangePool(ipc::WorkerRecord& counters, std::function<void()> on_release)
      : counters_(&counters), on_release_(std::move(on_release)) {}

  // One for the head that comes in; not yet in flight.
  Http1Exchange& take();
  // It never reached the application.
  void give_back(Http1Exchange& exchange);
  void count_started();
  void release(Http1Exchange& exchange);
  std::size_t in_flight() const { return in_flight_; }
  // The server is gone: nothing of it is touched any more.
  void orphan();

 private:
  std::vector<std::unique_ptr<Http1Exchange>> free_;
  std::size_t in_flight_ = 0;
  ipc::WorkerRecord* counters_;
  std::function<void()> on_release_;
  std::shared_ptr<ExchangePool> self_;  // while orphaned
};

}  // namespace mgr::server
