#include "worker/native/request.h"

#include <utility>

#include "common/server/percent.h"
#include "worker/native/dispatcher.h"

namespace mgr::native {
namespace {

using server::Exchange;

constexpr std::size_t kKeptCapacity = 16 * 1024;  // of the buffers of a free request

mgr_endpoint endpoint_of(const server::Endpoint* endpoint) {
  if (!endpoint) return {};
  return {text_of(endpoint->host), endpoint->is_unix ? -1 : endpoint->port};
}

int result_of(Exchange::SendResult result, bool more) {
  switch (result) {
    case Exchange::SendResult::sent:
      return MGR_SENT;
    case Exchange::SendResult::full:
      return more ? MGR_SENT_FULL : MGR_SENT;
    case Exchange::SendResult::closed:
      return MGR_SENT_CLOSED;
    case Exchange::SendResult::too_long:
      return MGR_SENT_TOO_LONG;
    case Exchange::SendResult::too_short:
      return MGR_SENT_TOO_SHORT;
    case Exchange::SendResult::bad_head:
      return MGR_SENT_BAD_HEAD;
    case Exchange::SendResult::wrong_order:
      return MGR_SENT_WRONG_ORDER;
  }
  return MGR_SENT_WRONG_ORDER;
}

void empty(std::string& buffer) {
  buffer.clear();
  if (buffer.capacity() > kKeptCapacity) buffer.shrink_to_fit();
}

}  // namespace

Request::Request(Dispatcher& dispatcher, std::string_view root_path)
    : Call(MGR_SCOPE_HTTP), dispatcher_(dispatcher) {
  scope.root_path = text_of(root_path);
}

void Request::begin(Exchange& exchange) {
  exchange_ = &exchange;
  waiting_ = Waiting::for_nothing;
  asked_ = body_given_ = full_ = timed_out_ = false;
  fill_scope(exchange.request());
  exchange.set_observer(this);
}

void Request::fill_scope(const server::Request& head) {
  scope.http_version = text_of(head.version == server::HttpVersion::http10 ? "1.0" : "1.1");
  scope.method = text_of(head.method);
  scope.scheme = text_of(head.scheme);
  scope.raw_path = text_of(head.raw_path);
  scope.query_string = text_of(head.query);
  scope.client = endpoint_of(head.client);
  scope.server = endpoint_of(head.server);
  if (scope.root_path.size == 0 && head.raw_path.find('%') == std::string_view::npos) {
    scope.path = scope.raw_path;
    return;
  }
  path_.assign(view_of(scope.root_path));
  server::append_percent_decoded(path_, head.raw_path);
  scope.path = text_of(path_);
}

const mgr_field* Request::headers(std::size_t& count) {
  const auto& fields = exchange_->request().headers;
  if (headers_.empty()) {
    for (const server::HeaderField& field : fields) {
      headers_.push_back({text_of(field.name), text_of(field.value)});
    }
  }
  count = headers_.size();
  return headers_.data();
}

bool Request::over() const {
  return exchange_->response_complete() || exchange_->disconnected();
}

bool Request::receive(mgr_message& message) {
  message = {MGR_MESSAGE_DISCONNECT, 0, {}};
  if (over()) return true;
  if (body_given_ && exchange_->input_ended()) return true;
  waiting_ = Waiting::for_message;
  if (body_given_) return false;
  if (!std::exchange(asked_, true)) exchange_->want_body();
  const bool complete = exchange_->body_complete();
  if (exchange_->body().empty() && !complete) return false;
  waiting_ = Waiting::for_nothing;
  // A copy: the exchange's own buffer moves when more arrives.
  received_.assign(exchange_->body());
  message = {MGR_MESSAGE_REQUEST, complete ? 0u : 1u, text_of(received_)};
  body_given_ = complete;
  if (!received_.empty()) exchange_->consume(received_.size());
  return true;
}

int Request::send_head(int status, const mgr_field* headers, std::size_t count) {
  if (exchange_->response_complete()) return MGR_SENT;
  auto& fields = dispatcher_.scratch_headers();
  fields.clear();
  for (std::size_t i = 0; i < count; ++i) {
    fields.push_back({view_of(headers[i].name), view_of(headers[i].value)});
  }
  return result_of(exchange_->send_head(status, fields), true);
}

int Request::send_body(std::string_view body, bool more) {
  if (exchange_->response_complete()) return MGR_SENT;
  const auto result = exchange_->send_body(body, more);
  if (result == Exchange::SendResult::full) full_ = true;
  const int told = result_of(result, more);
  if (told == MGR_SENT_FULL) waiting_ = Waiting::for_drain;
  return told;
}

int Request::send_lifespan(int, std::string_view) {
  return MGR_SENT_WRONG_SCOPE;
}

int Request::flow() const {
  if (exchange_->response_complete()) return MGR_FLOW_OPEN;
  if (exchange_->disconnected()) return MGR_FLOW_GONE;
  return full_ ? MGR_FLOW_FULL : MGR_FLOW_OPEN;
}

void Request::on_body(Exchange&) noexcept {
  come(Waiting::for_message);
}
void Request::on_drain(Exchange&) noexcept {
  full_ = false;
  come(Waiting::for_drain);
}
void Request::on_disconnect(Exchange&) noexcept {
  come(waiting_);
}

void Request::on_input_end(Exchange&) noexcept {
  come(Waiting::for_message);
}

void Request::on_timeout(Exchange& exchange) noexcept {
  exchange.time_out();
  timed_out_ = true;
  dispatcher_.mark(*this);
}

void Request::come(Waiting what) noexcept {
  if (waiting_ == Waiting::for_nothing || waiting_ != what) return;
  waiting_ = Waiting::for_nothing;
  dispatcher_.mark(*this);
}

std::string Request::line() const {
  const server::Request& head = exchange_->request();
  return std::string(head.method) + " " + std::string(head.target);
}

void Request::finished(int outcome, std::string_view type, std::string_view what) {
  const Log& log = dispatcher_.log();
  if (outcome == MGR_RAISED) {
    log.error("{}: the application failed: {}", line(), describe_exception(type, what));
  } else if (outcome == MGR_DISCONNECTED) {
    log.debug("{}: {}", line(), what);
  } else if (!over() && !exchange_->input_ended()) {
    log.error("{}: the application returned without {} the response", line(),
              exchange_->head_sent() ? "completing" : "starting");
  }
  if (!over()) answer_for_the_application();
  conclude();
}

// RFC 9110 15.6.1, while nothing has been sent; else the client must notice that the end is
// missing.
void Request::answer_for_the_application() {
  if (exchange_->head_flushed() || exchange_->input_ended()) {
    exchange_->abort();
  } else {
    exchange_->respond(500, "text/plain; charset=utf-8", "Internal Server Error");
  }
}

void Request::cut() {
  if (!over()) exchange_->abort();
  conclude();
}

void Request::conclude() {
  Exchange* exchange = std::exchange(exchange_, nullptr);
  exchange->set_observer(nullptr);
  exchange->release();
  headers_.clear();
  empty(path_);
  empty(received_);
  dispatcher_.give_back(*this);
}

}  // namespace mgr::native
