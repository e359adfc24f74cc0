#include "common/server/http1_connection.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/base/check.h"

namespace mgr::server {
namespace {
constexpr Refusal kBodyTooLarge{413, "request body too large"};
}

Http1Connection::Http1Connection(Context& context, UniqueFd fd, PeerRef peer)
    : context_(context),
      peer_(std::move(peer)),
      socket_(context.loop, std::move(fd),
              peer_->client.is_unix ? Socket::Kind::local : Socket::Kind::tcp, *this),
      parser_(context.limits) {
  context_.deadlines.arm(reading_, DeadlineKind::header);
}

Http1Connection::~Http1Connection() {
  CHECK(state_ == State::closed);
}

// ---- input

bool Http1Connection::wants_input() const {
  if (eof_) return false;
  switch (state_) {
    case State::idle:
      return pending_.empty() && socket_.unsent() <= kHighWater;
    case State::exchange:
      if (body_.complete()) return pending_.empty();
      return exchange_->body().size() <= kHighWater;
    case State::head:
    case State::drain:
    case State::finishing:
    case State::linger:
      return true;
    case State::closed:
      return false;
  }
  return false;
}

void Http1Connection::on_readable() noexcept {
  context_.connections.sweep();
  if (wants_input()) {
    read_some();
  } else {
    socket_.pause_reading();
  }
}

void Http1Connection::read_some() {
  std::size_t received = 0;
  switch (socket_.read(context_.read_buffer, received)) {
    case Socket::Status::again:
      return;
    case Socket::Status::lost:
      return on_lost();
    case Socket::Status::eof:
      return on_eof();
    case Socket::Status::ok:
    case Socket::Status::bad_file:
      break;
  }
  bump(context_.counters.bytes_in, received);
  const std::string_view rest = process({context_.read_buffer.data(), received});
  if (state_ == State::closed) return;
  if (!rest.empty()) {
    pending_.assign(rest);
    pending_used_ = 0;
  }
  settle();
}

// Returns what belongs to a later request than can be begun now.
std::string_view Http1Connection::process(std::string_view input) {
  processing_ = true;
  const std::uint64_t heads_before = heads_begun_;
  while (!input.empty()) {
    if (state_ == State::idle) {
      if (socket_.unsent() > kHighWater) break;
      input = start_head(input);
    } else if (state_ == State::head) {
      input = read_head(input);
    } else if (state_ == State::exchange) {
      if (body_.complete()) break;
      input = read_body(input);
    } else if (state_ == State::drain) {
      input = drain_body(input);
    } else {
      input = {};
    }
  }
  processing_ = false;
  if (state_ == State::head && heads_begun_ != heads_before) await_head();
  return input;
}

// Empty lines before a request are ignored (RFC 9112 2.2).
std::string_view Http1Connection::start_head(std::string_view input) {
  while (!input.empty()) {
    if (empty_line_begun_) {
      empty_line_begun_ = false;
      if (input.front() != '\n') {
        begin_head();
        return read_head("\r");
      }
    } else if (input.front() == '\r') {
      empty_line_begun_ = true;
    } else {
      begin_head();
      return input;
    }
    input.remove_prefix(1);
  }
  return input;
}

void Http1Connection::begin_head() {
  exchange_ = &context_.exchanges->take();
  parser_.begin(exchange_->head());
  state_ = State::head;
  ++heads_begun_;
}

// The header deadline runs from the first byte of a head, or from the connection's beginning. A
// head that comes whole needs none.
void Http1Connection::await_head() {
  if (reading_.armed() && reading_.kind() == DeadlineKind::header) return;
  context_.deadlines.arm(reading_, DeadlineKind::header);
}

std::string_view Http1Connection::read_head(std::string_view input) {
  const HeadParser::Step step = parser_.feed(input);
  switch (step.outcome) {
    case HeadParser::Outcome::incomplete:
      break;
    case HeadParser::Outcome::refused:
      refuse(step.refusal);
      return {};
    case HeadParser::Outcome::complete:
      input.remove_prefix(step.consumed);
      start_exchange(input.empty());
      return input;
  }
  return {};
}

void Http1Connection::start_exchange(bool input_ends) {
  const RequestHead& head = exchange_->head();
  if (context_.limit_body > 0 && head.content_length > context_.limit_body) {
    return refuse(kBodyTooLarge);
  }
  exchange_->begin(*this, peer_, context_.forwarded,
                   context_.counters.running_since_ns.load(std::memory_order_relaxed));
  body_.begin(head, context_.limits);
  body_received_ = 0;
  continue_awaited_ = head.expects_continue && input_ends;
  state_ = State::exchange;
  context_.deadlines.disarm(reading_);
  await_body();
  if (context_.deadlines.on(DeadlineKind::request)) {
    context_.deadlines.arm(answering_, DeadlineKind::request);
  }
  context_.exchanges->count_started();
  context_.application.on_request(*exchange_);
}

std::string_view Http1Connection::read_body(std::string_view input) {
  continue_awaited_ = false;
  while (!input.empty() && !body_.complete()) {
    std::string_view data;
    const Refusal refusal = body_.next(input, data);
    body_received_ += data.size();
    if (refusal) {
      break_body(refusal);
      return {};
    }
    if (over_limit_body()) {
      break_body(kBodyTooLarge);
      return {};
    }
    exchange_->append_body(data);
  }
  if (body_.complete()) exchange_->end_body();
  await_body();
  exchange_->tell_body();
  return input;
}

// To the end, as the client has been told that it may go on.
std::string_view Http1Connection::drain_body(std::string_view input) {
  while (!input.empty() && !body_.complete()) {
    std::string_view data;
    const Refusal refusal = body_.next(input, data);
    body_received_ += data.size();
    if (refusal || over_limit_body()) {
      finish();
      return {};
    }
  }
  if (body_.complete()) {
    next_request();
  } else {
    await_body();
  }
  return input;
}

bool Http1Connection::over_limit_body() const {
  return context_.limit_body > 0 && body_received_ > context_.limit_body;
}

// The body deadline runs while a part of the body is awaited and would be read.
void Http1Connection::await_body() {
  const bool reading = state_ == State::drain || exchange_->body().size() <= kHighWater;
  if (body_.complete() || continue_awaited_ || !reading) {
    context_.deadlines.disarm(reading_);
  } else {
    context_.deadlines.arm(reading_, DeadlineKind::body);
  }
}

void Http1Connection::on_eof() {
  eof_ = true;
  switch (state_) {
    case State::exchange:
      if (!body_.complete()) return close();
      sent_at_eof_ = socket_.sent_bytes();
      return context_.deadlines.arm(reading_, DeadlineKind::half_closed);
    case State::idle:
    case State::finishing:
      return settle();
    case State::head:
    case State::drain:
    case State::linger:
      return close();
    case State::closed:
      return;
  }
}

void Http1Connection::part() {
  if (state_ == State::idle && socket_.unsent() == 0) {
    context_.deadlines.arm_sooner(reading_, DeadlineKind::parting);
  }
}

// A peer that will send no more and has been answered is let go.
void Http1Connection::settle() {
  if (state_ == State::idle && eof_ && pending_.empty()) finish();
}

void Http1Connection::continue_reading() {
  if (processing_ || state_ == State::closed) return;
  while (!pending_.empty() && state_ == State::idle && socket_.unsent() <= kHighWater) {
    const std::string_view rest = process(std::string_view(pending_).substr(pending_used_));
    if (state_ == State::closed) return;
    pending_used_ = pending_.size() - rest.size();
    if (rest.empty()) {
      pending_ = std::string();
      pending_used_ = 0;
    }
  }
  settle();
  if (state_ != State::closed && wants_input()) socket_.resume_reading();
}

// ---- output

Socket::Status Http1Connection::write(std::span<iovec> parts) {
  const std::size_t before = socket_.sent_bytes();
  return written(before, socket_.write(parts));
}

Socket::Status Http1Connection::write_file(std::span<iovec> parts, UniqueFd file,
                                           std::uint64_t offset, std::uint64_t count) {
  const std::size_t before = socket_.sent_bytes();
  const Socket::Status status =
      written(before, socket_.write_file(parts, std::move(file), offset, count));
  if (status == Socket::Status::bad_file) tell_bad_file();
  return status;
}

Socket::Status Http1Connection::written(std::size_t sent_before, Socket::Status status) {
  bump(context_.counters.bytes_out, socket_.sent_bytes() - sent_before);
  if (status == Socket::Status::again && !writing_.armed()) {
    context_.deadlines.arm(writing_, DeadlineKind::write);
  }
  return status;
}

void Http1Connection::tell_bad_file() {
  context_.log.error("a file that was being sent {}: the connection ends",
                     errno == 0 ? "ended early" : std::string("failed: ") + std::strerror(errno));
}

void Http1Connection::on_writable() noexcept {
  context_.connections.sweep();
  const std::size_t before = socket_.sent_bytes();
  const Socket::Status status = socket_.flush();
  bump(context_.counters.bytes_out, socket_.sent_bytes() - before);
  if (status == Socket::Status::lost) return on_lost();
  if (status == Socket::Status::bad_file) return break_response();
  if (status == Socket::Status::ok) {
    context_.deadlines.disarm(writing_);
  } else if (socket_.sent_bytes() > before) {
    context_.deadlines.arm(writing_, DeadlineKind::write);
  }
  if (state_ == State::finishing) {
    if (status == Socket::Status::ok) to_linger();
    return;
  }
  if (state_ == State::exchange && exchange_->sending_file()) {
    if (status == Socket::Status::ok) exchange_->file_sent();
    return;
  }
  if (state_ == State::exchange && socket_.unsent() < kLowWater) exchange_->tell_drain();
  if (state_ != State::idle) return;
  if (status == Socket::Status::ok) context_.deadlines.arm(reading_, DeadlineKind::keep_alive);
  continue_reading();
}

bool Http1Connection::may_keep_alive(bool more) const {
  if (!exchange_->head().keep_alive || context_.closing || eof_) return false;
  if (body_.complete()) return true;
  return !continue_awaited_ && (more || body_.remaining() <= kMostDrained);
}

void Http1Connection::send_continue() {
  if (!continue_awaited_) return;
  continue_awaited_ = false;
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  iovec part{const_cast<char*>(kContinue.data()), kContinue.size()};
  if (write({&part, 1}) == Socket::Status::lost) return on_lost();
  await_body();
}

void Http1Connection::body_consumed() {
  if (state_ != State::exchange || body_.complete()) return;
  if (!reading_.armed()) await_body();
  continue_reading();
}

void Http1Connection::response_done(bool keep_alive) {
  Http1Exchange& done = *std::exchange(exchange_, nullptr);
  const auto now = Deadlines::Clock::now();
  if (answering_.overdue(now)) tell_late(done.request());
  context_.deadlines.disarm(answering_);
  record_request(done, now);
  if (!keep_alive) {
    // A client that has asked for the end sends no more (RFC 9112 9.6): no need to linger.
    if (!done.head().keep_alive && body_.complete() && pending_.empty()) eof_ = true;
    return finish();
  }
  if (body_.complete()) {
    next_request(now);
  } else {
    state_ = State::drain;
    await_body();
  }
  continue_reading();
}

// The loop was blocked, most likely by this very request: nobody could end it in time.
void Http1Connection::tell_late(const Request& request) const {
  bump(context_.counters.timeouts);
  context_.log.warning(
      "{} {}: answered after more than request_timeout, as the loop was blocked (mgr stack says by "
      "what; a WSGI application with threads: 1 blocks it)",
      request.method, request.target);
}

void Http1Connection::next_request(Deadlines::Clock::time_point now) {
  state_ = State::idle;
  context_.deadlines.disarm(reading_);
  if (socket_.unsent() == 0) context_.deadlines.arm(reading_, DeadlineKind::keep_alive, now);
}

// ---- the end

// Answers a head that is not accepted, and ends the connection.
void Http1Connection::refuse(Refusal refusal) {
  Http1Exchange& exchange = *std::exchange(exchange_, nullptr);
  AccessRecord record;
  record.client = peer_->client.is_unix ? std::string_view() : peer_->client.host;
  record.request_line = exchange.head().request_line();
  answer(refusal, record);
  context_.exchanges->give_back(exchange);
}

// The rest of the input has no meaning: answer if that is still possible.
void Http1Connection::break_body(Refusal refusal) {
  context_.deadlines.disarm(answering_);
  Http1Exchange& exchange = *std::exchange(exchange_, nullptr);
  if (exchange.head_flushed()) {
    end_broken(exchange);
  } else {
    record_duration(exchange, Deadlines::Clock::now());
    answer(refusal, exchange.access_record());
  }
  exchange.lose();
}

void Http1Connection::answer(Refusal refusal, AccessRecord record) {
  std::string out;
  const auto message = context_.describe_refusal(refusal.status, refusal.reason);
  const HeaderField type{"Content-Type", message.type};
  CHECK(context_.heads.append(out, refusal.status, {&type, 1}));
  out.append("Content-Length: ").append(std::to_string(message.body.size())).append("\r\n");
  out.append(kConnectionClose).append("\r\n");
  if (!record.request_line.starts_with("HEAD ")) {
    out.append(message.body);
    record.body_bytes = message.body.size();
  }
  record.status = refusal.status;
  count_request(context_.counters, refusal.status);
  context_.access_log.write(record);
  context_.log.debug("refused with {}: {}; from {}", refusal.status, refusal.reason,
                     record.client.empty() ? "a Unix socket" : record.client);
  iovec part{out.data(), out.size()};
  if (write({&part, 1}) == Socket::Status::lost) return close();
  finish();
}

void Http1Connection::abort_exchange() {
  context_.deadlines.disarm(answering_);
  Http1Exchange& exchange = *std::exchange(exchange_, nullptr);
  end_broken(exchange);
  exchange.forget_connection();
}

// What the application sends can't be had any more.
void Http1Connection::break_response() {
  tell_bad_file();
  Http1Exchange& exchange = *std::exchange(exchange_, nullptr);
  end_broken(exchange);
  exchange.lose();
}

// A response that has begun and is not complete.
void Http1Connection::end_broken(const Http1Exchange& exchange) {
  record_request(exchange);
  if (!exchange.until_close()) return finish();
  // Without a reset the end of the connection would look like the end of the body.
  socket_.reset();
  close();
}

void Http1Connection::finish() {
  state_ = State::finishing;
  context_.deadlines.disarm(reading_);
  pending_ = std::string();
  socket_.drop_file();
  if (socket_.unsent() == 0) to_linger();
}

// A close before input that is still to come would send RST, which can destroy the response on its
// way.
void Http1Connection::to_linger() {
  if (eof_) return close();
  socket_.finish_output();
  state_ = State::linger;
  context_.deadlines.arm(reading_, DeadlineKind::linger);
  socket_.resume_reading();
}

void Http1Connection::on_lost() noexcept {
  close();
}

void Http1Connection::cut() {
  if (state_ != State::closed) close();
}

void Http1Connection::close() {
  const State before = std::exchange(state_, State::closed);
  CHECK(before != State::closed);
  context_.deadlines.disarm(reading_);
  context_.deadlines.disarm(writing_);
  context_.deadlines.disarm(answering_);
  if (socket_.open()) socket_.close();
  pending_ = std::string();
  context_.connections.retire(*this);
  Http1Exchange* exchange = std::exchange(exchange_, nullptr);
  if (exchange && before == State::head) {
    context_.exchanges->give_back(*exchange);
  } else if (exchange) {
    record_request(*exchange);
    exchange->lose();
  }
  context_.on_one_gone();
}

void Http1Connection::record_request(const Http1Exchange& exchange,
                                     Deadlines::Clock::time_point now) {
  count_request(context_.counters, exchange.status());
  record_duration(exchange, now);
  if (context_.access_log.on()) context_.access_log.write(exchange.access_record());
}

// From the loop's turn that brought the end of the head, where somebody keeps account of turns.
void Http1Connection::record_duration(const Http1Exchange& exchange,
                                      Deadlines::Clock::time_point now) {
  const auto now_ns =
      static_cast<std::uint64_t>(now.time_since_epoch() / std::chrono::nanoseconds(1));
  const std::uint64_t began = exchange.began_ns();
  if (began > 0 && began <= now_ns) ipc::count_duration(context_.counters, now_ns - began);
}

// ---- deadlines

void Http1Connection::on_deadline(DeadlineKind kind) noexcept {
  context_.connections.sweep();
  if (kind == DeadlineKind::write) {
    const std::size_t before = socket_.sent_bytes();
    on_writable();
    if (state_ == State::closed || !socket_.has_output() || socket_.sent_bytes() > before) return;
    context_.log.debug("a client took nothing of its response for write_timeout: disconnected");
    socket_.reset();
    return close();
  }
  if (kind == DeadlineKind::linger) return close();
  if (kind == DeadlineKind::request) return exchange_->tell_timeout();
  if (kind == DeadlineKind::half_closed) {
    // One that had gone would have answered what was sent with a reset.
    if (socket_.sent_bytes() == sent_at_eof_) exchange_->tell_input_end();
    return;
  }
  // A loop that was busy for long finds here what came in time.
  const State before = state_;
  if (wants_input() && socket_.input_waiting()) read_some();
  if (state_ != before || reading_.armed()) return;
  switch (state_) {
    case State::head:
      return refuse({408, "request head took too long"});
    case State::exchange:
      return break_body({408, "request body took too long"});
    case State::idle:
    case State::drain:
      return finish();
    case State::finishing:
    case State::linger:
    case State::closed:
      return;
  }
}

}  // namespace mgr::server
