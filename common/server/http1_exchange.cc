#include "common/server/http1_exchange.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "common/server/http1_connection.h"
#include "common/server/syntax.h"

namespace mgr::server {
namespace {

constexpr std::size_t kKeepCapacity = 16 * 1024;  // of the buffers of a free exchange
constexpr std::size_t kMostFree = 256;

iovec part(std::string_view text) {
  return {const_cast<char*>(text.data()), text.size()};
}

void empty(std::string& buffer) {
  buffer.clear();
  if (buffer.capacity() > kKeepCapacity) buffer.shrink_to_fit();
}

void append_content_length(std::string& out, std::uint64_t length) {
  constexpr std::string_view kName = "Content-Length: ";
  std::array<char, 40> line;
  kName.copy(line.data(), kName.size());
  char* end = std::to_chars(line.data() + kName.size(), line.data() + line.size(), length).ptr;
  *end++ = '\r';
  *end++ = '\n';
  out.append(line.data(), end);
}

iovec chunk_size_line(std::array<char, 24>& line, std::uint64_t size) {
  char* end = std::to_chars(line.data(), line.data() + 16, size, 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  return part({line.data(), static_cast<std::size_t>(end - line.data())});
}

std::string_view find_field(const Request& request, std::string_view name) {
  for (const HeaderField& field : request.headers) {
    if (field.name == name) return field.value;
  }
  return {};
}

}  // namespace

void Http1Exchange::begin(Http1Connection& connection, const PeerRef& peer,
                          const ForwardedPolicy& policy, std::uint64_t turn_began_ns) {
  connection_ = &connection;
  peer_ = peer;
  began_ns_ = turn_began_ns;
  head_.describe(request_);
  request_.scheme = "http";
  request_.client = peer_->client.is_unix ? nullptr : &peer_->client;
  request_.server = &peer_->server;
  body_complete_ = !request_.has_body;
  if (peer_->trusted) apply_claim(policy);
}

void Http1Exchange::apply_claim(const ForwardedPolicy& policy) {
  ForwardedPolicy::Claim claim = policy.read(request_.headers);
  if (claim.client) {
    claimed_client_ = std::move(*claim.client);
    request_.client = &claimed_client_;
  }
  if (!claim.scheme.empty()) request_.scheme = claim.scheme;
  if (!claim.host.empty() || claim.port != 0) replace_host(claim.host, claim.port);
}

void Http1Exchange::replace_host(std::string_view host, int port) {
  claimed_server_ = peer_->server;
  if (!host.empty()) {
    for (HeaderField& field : request_.headers) {
      if (field.name == "host") field.value = host;
    }
    const std::size_t colon = host.ends_with(']') ? std::string_view::npos : host.rfind(':');
    claimed_server_.host = host.substr(0, colon);
    claimed_server_.port = request_.scheme == "https" ? 443 : 80;
    if (colon != std::string_view::npos) {
      const std::string_view digits = host.substr(colon + 1);
      std::from_chars(digits.data(), digits.data() + digits.size(), claimed_server_.port);
    }
    claimed_server_.is_unix = false;
  }
  if (port != 0) claimed_server_.port = port;
  request_.server = &claimed_server_;
}

void Http1Exchange::consume(std::size_t bytes) {
  CHECK(bytes <= body_.size() - consumed_);
  consumed_ += bytes;
  if (consumed_ == body_.size()) {
    body_.clear();
    consumed_ = 0;
  } else if (consumed_ > kHighWater) {
    body_.erase(0, consumed_);
    consumed_ = 0;
  }
  if (connection_) connection_->body_consumed();
}

void Http1Exchange::want_body() {
  if (connection_ && (state_ == State::none || state_ == State::headed)) {
    connection_->send_continue();
  }
}

Exchange::SendResult Http1Exchange::send_head(int status, std::span<const HeaderField> headers,
                                              std::string_view reason) {
  if (state_ == State::lost) return SendResult::closed;
  if (state_ != State::none) return SendResult::wrong_order;
  head_out_.clear();
  const auto wanted = connection_->context().heads.append(head_out_, status, headers, reason);
  if (!wanted) return SendResult::bad_head;
  wanted_ = *wanted;
  status_ = status;
  state_ = State::headed;
  return SendResult::sent;
}

bool Http1Exchange::bodyless() const {
  return status_ < 200 || status_ == 204 || status_ == 304 || request_.method == "HEAD";
}

// Decides the framing when the first of the body is known, and completes the head.
void Http1Exchange::frame_head(std::uint64_t size, bool more) {
  std::optional<std::uint64_t> length = wanted_.content_length;
  const bool is_11 = request_.version == HttpVersion::http11;
  if (bodyless()) {
    framing_ = Framing::none;
    // What a GET would have got, where it is known; none for 1xx and 204 (RFC 9110 8.6).
    if (!length && !more && size > 0) length = size;
    if (status_ < 200 || status_ == 204 || (status_ == 304 && !wanted_.content_length))
      length.reset();
  } else if (length || !more) {
    framing_ = Framing::length;
    if (!length) length = size;
    length_ = *length;
  } else {
    framing_ = is_11 ? Framing::chunked : Framing::until_close;
  }
  if (length) append_content_length(head_out_, *length);
  if (framing_ == Framing::chunked) head_out_.append(kChunked);
  // A 1xx is no final response: nothing may follow it.
  keep_alive_ = !closing_ && !wanted_.close && framing_ != Framing::until_close && status_ >= 200 &&
                connection_->may_keep_alive(more);
  if (!keep_alive_) {
    head_out_.append(kConnectionClose);
  } else if (!is_11) {
    head_out_.append(kConnectionKeepAlive);
  }
  head_out_.append("\r\n");
  state_ = State::flowing;
}

Exchange::SendResult Http1Exchange::send_body(std::string_view data, bool more) {
  if (sending_file()) return SendResult::wrong_order;
  switch (state_) {
    case State::lost:
      return SendResult::closed;
    case State::none:
    case State::complete:
      return SendResult::wrong_order;
    case State::headed:
      frame_head(data.size(), more);
      break;
    case State::flowing:
      break;
  }
  if (framing_ == Framing::none) data = {};
  if (framing_ != Framing::length) return put(data, more);
  const std::uint64_t left = length_ - body_sent_;
  if (data.size() > left) {
    keep_alive_ = false;
    const SendResult result = put(data.substr(0, static_cast<std::size_t>(left)), false);
    return result == SendResult::closed ? result : SendResult::too_long;
  }
  if (!more && data.size() < left) {
    const SendResult result = put(data, true);
    if (result != SendResult::closed) abort();
    return result == SendResult::closed ? result : SendResult::too_short;
  }
  return put(data, more);
}

Exchange::SendResult Http1Exchange::put(std::string_view data, bool more) {
  std::array<iovec, 4> parts;
  std::array<char, 24> size_line;
  std::size_t count = 0;
  if (!head_flushed_) parts[count++] = part(head_out_);
  if (!data.empty()) {
    if (framing_ == Framing::chunked) {
      parts[count++] = chunk_size_line(size_line, data.size());
    }
    parts[count++] = part(data);
  }
  if (framing_ == Framing::chunked) {
    const std::string_view after_data = data.empty() ? "" : "\r\n";
    const std::string_view tail =
        more ? after_data : (data.empty() ? "0\r\n\r\n" : "\r\n0\r\n\r\n");
    if (!tail.empty()) parts[count++] = part(tail);
  }
  head_flushed_ = true;
  body_sent_ += data.size();
  if (count > 0 && connection_->write({parts.data(), count}) == Socket::Status::lost) {
    connection_->lost();
    return SendResult::closed;
  }
  if (!more) return finish(SendResult::sent);
  return sent_or_full();
}

Exchange::SendResult Http1Exchange::send_interim(int status, std::span<const HeaderField> headers) {
  if (state_ == State::lost) return SendResult::closed;
  if (state_ == State::complete) return SendResult::wrong_order;
  std::string out;
  if (!connection_->context().heads.append_interim(out, status, headers)) {
    return SendResult::bad_head;
  }
  if (head_flushed_ || request_.version == HttpVersion::http10) return SendResult::sent;
  iovec whole = part(out);
  if (connection_->write({&whole, 1}) == Socket::Status::lost) {
    connection_->lost();
    return SendResult::closed;
  }
  return sent_or_full();
}

// RFC 9110 6.5.1: a recipient may merge or drop them, and only one that says so keeps them.
bool Http1Exchange::takes_trailers() const {
  if (framing_ != Framing::chunked) return false;
  for (const HeaderField& field : request_.headers) {
    if (field.name != "te") continue;
    std::string_view codings = field.value;
    while (!codings.empty()) {
      if (syntax::equals_ignoring_case(syntax::next_element(codings), "trailers")) return true;
    }
  }
  return false;
}

Exchange::SendResult Http1Exchange::send_trailers(std::span<const HeaderField> fields, bool more) {
  if (state_ == State::lost) return SendResult::closed;
  if (state_ != State::flowing || sending_file()) return SendResult::wrong_order;
  if (!std::exchange(trailing_, true)) head_out_.clear();
  if (!ResponseHeads::append_trailers(head_out_, fields)) return SendResult::bad_head;
  if (more) return SendResult::sent;
  if (!takes_trailers()) return send_body({}, false);
  std::array<iovec, 3> parts{part("0\r\n"), part(head_out_), part("\r\n")};
  if (connection_->write(parts) == Socket::Status::lost) {
    connection_->lost();
    return SendResult::closed;
  }
  return finish(SendResult::sent);
}

Exchange::SendResult Http1Exchange::sent_or_full() {
  if (connection_->unsent() <= kHighWater) return SendResult::sent;
  wants_drain_ = true;
  return SendResult::full;
}

Exchange::SendResult Http1Exchange::send_file(UniqueFd file, std::uint64_t offset,
                                              std::uint64_t count, bool more) {
  if (state_ == State::lost) return SendResult::closed;
  if ((state_ != State::headed && state_ != State::flowing) || sending_file()) {
    return SendResult::wrong_order;
  }
  if (const auto left = length_left()) {
    if (count > *left) return contradict_length(SendResult::too_long);
    if (!more && count < *left) return contradict_length(SendResult::too_short);
  }
  if (state_ == State::headed) frame_head(count, more);
  if (framing_ == Framing::none || count == 0) return put({}, more);
  return put_file(std::move(file), offset, count, more);
}

// Of the body, where its length has been or will be announced.
std::optional<std::uint64_t> Http1Exchange::length_left() const {
  if (bodyless()) return std::nullopt;
  if (state_ == State::headed) return wanted_.content_length;
  if (framing_ != Framing::length) return std::nullopt;
  return length_ - body_sent_;
}

Exchange::SendResult Http1Exchange::contradict_length(SendResult how) {
  if (state_ == State::flowing) abort();
  return how;
}

Exchange::SendResult Http1Exchange::put_file(UniqueFd file, std::uint64_t offset,
                                             std::uint64_t count, bool more) {
  std::array<iovec, 2> parts;
  std::array<char, 24> size_line;
  std::size_t size = 0;
  if (!head_flushed_) parts[size++] = part(head_out_);
  if (framing_ == Framing::chunked) parts[size++] = chunk_size_line(size_line, count);
  head_flushed_ = true;
  body_sent_ += count;
  file_ = more ? File::more_follows : File::last;
  switch (connection_->write_file({parts.data(), size}, std::move(file), offset, count)) {
    case Socket::Status::ok:
      return end_of_file();
    case Socket::Status::lost:
      connection_->lost();
      return SendResult::closed;
    case Socket::Status::bad_file:
      abort();
      return SendResult::too_short;
    case Socket::Status::again:
    case Socket::Status::eof:  // of input alone
      break;
  }
  wants_drain_ = true;
  return SendResult::full;
}

// The rest of the chunk, and the response's where the file was the last of it.
Exchange::SendResult Http1Exchange::end_of_file() {
  const bool more = std::exchange(file_, File::none) == File::more_follows;
  if (framing_ == Framing::chunked) {
    const std::string_view tail = more ? "\r\n" : "\r\n0\r\n\r\n";
    iovec last = part(tail);
    if (connection_->write({&last, 1}) == Socket::Status::lost) {
      connection_->lost();
      return SendResult::closed;
    }
  }
  return more ? SendResult::sent : finish(SendResult::sent);
}

void Http1Exchange::file_sent() {
  if (end_of_file() != SendResult::closed) tell_drain();
}

Exchange::SendResult Http1Exchange::finish(SendResult result) {
  state_ = State::complete;
  Http1Connection* connection = std::exchange(connection_, nullptr);
  connection->response_done(keep_alive_);
  return result;
}

void Http1Exchange::respond(int status, std::string_view content_type, std::string_view body) {
  if (!connection_) return;
  if (head_flushed_) return abort();
  state_ = State::none;
  const HeaderField type{"Content-Type", content_type};
  CHECK(send_head(status, {&type, 1}) == SendResult::sent);
  send_body(body, false);
}

void Http1Exchange::abort() {
  if (!connection_) return;
  connection_->abort_exchange();
}

void Http1Exchange::time_out() {
  if (!connection_) return;
  const Context& context = connection_->context();
  bump(context.counters.timeouts);
  context.log.warning("{} {}: no complete response within request_timeout: {}", request_.method,
                      request_.target,
                      head_flushed_ ? "the connection is cut" : "answered with 504");
  respond(504, "text/plain; charset=utf-8", "Gateway Timeout");
}

int Http1Exchange::connection_fd() const {
  return connection_ ? connection_->fd() : -1;
}

void Http1Exchange::release() {
  observer_ = nullptr;
  if (connection_ && !head_flushed_) {
    closing_ = true;
    respond(500, "text/plain; charset=utf-8", "Internal Server Error\n");
  }
  abort();
  pool_.release(*this);
}

void Http1Exchange::tell_body() {
  if (observer_) observer_->on_body(*this);
}

void Http1Exchange::tell_drain() {
  if (!wants_drain_) return;
  wants_drain_ = false;
  if (observer_) observer_->on_drain(*this);
}

void Http1Exchange::tell_timeout() {
  if (observer_) return observer_->on_timeout(*this);
  time_out();
}

void Http1Exchange::tell_input_end() {
  input_ended_ = true;
  if (observer_) observer_->on_input_end(*this);
}

void Http1Exchange::forget_connection() {
  connection_ = nullptr;
  state_ = State::lost;
}

void Http1Exchange::lose() {
  forget_connection();
  if (observer_) observer_->on_disconnect(*this);
}

AccessRecord Http1Exchange::access_record() const {
  AccessRecord record;
  if (request_.client) record.client = request_.client->host;
  record.request_line = head_.request_line();
  record.status = status();
  record.body_bytes = body_sent_;
  record.referer = find_field(request_, "referer");
  record.user_agent = find_field(request_, "user-agent");
  return record;
}

void Http1Exchange::recycle() {
  connection_ = nullptr;
  peer_ = PeerRef();
  observer_ = nullptr;
  user_data = nullptr;
  head_.clear();
  empty(head_.raw);
  request_.headers.clear();
  request_.client = request_.server = nullptr;
  empty(body_);
  consumed_ = 0;
  body_complete_ = input_ended_ = false;
  state_ = State::none;
  framing_ = Framing::none;
  status_ = 0;
  empty(head_out_);
  wanted_ = {};
  length_ = body_sent_ = 0;
  head_flushed_ = keep_alive_ = closing_ = wants_drain_ = trailing_ = false;
  file_ = File::none;
}

Http1Exchange& ExchangePool::take() {
  if (free_.empty()) return *new Http1Exchange(*this);
  Http1Exchange* exchange = free_.back().release();
  free_.pop_back();
  return *exchange;
}

void ExchangePool::give_back(Http1Exchange& exchange) {
  std::unique_ptr<Http1Exchange> owned(&exchange);
  exchange.recycle();
  if (free_.size() < kMostFree) free_.push_back(std::move(owned));
}

void ExchangePool::count_started() {
  set(counters_->in_flight, ++in_flight_);
}

void ExchangePool::release(Http1Exchange& exchange) {
  --in_flight_;
  give_back(exchange);
  if (!self_) {
    set(counters_->in_flight, in_flight_);
    on_release_();
  } else if (in_flight_ == 0) {
    self_.reset();  // the last touch: this is gone
  }
}

void ExchangePool::orphan() {
  if (in_flight_ > 0) self_ = shared_from_this();
}

}  // namespace mgr::server
