#include "common/server/context.h"

#include "common/server/http1_connection.h"
#include "common/server/http1_exchange.h"

namespace mgr::server {
namespace {

constexpr std::size_t kReadBuffer = 64 * 1024;
constexpr std::chrono::milliseconds kLinger{1000};
constexpr std::chrono::milliseconds kParting{1000};
constexpr std::chrono::milliseconds kHalfClosed{1000};

ServerOptions::Message as_text(int /*status*/, std::string_view reason) {
  return {"text/plain; charset=utf-8", std::string(reason) + "\n"};
}

}  // namespace

Connections::Connections() = default;

Connections::~Connections() {
  CHECK(open_.empty());
}

void Connections::add(std::unique_ptr<Http1Connection> connection) {
  connection->index = open_.size();
  open_.push_back(std::move(connection));
}

void Connections::retire(Http1Connection& connection) {
  const std::size_t index = connection.index;
  CHECK(index < open_.size() && open_[index].get() == &connection);
  closed_.push_back(std::move(open_[index]));
  if (index + 1 < open_.size()) {
    open_[index] = std::move(open_.back());
    open_[index]->index = index;
  }
  open_.pop_back();
}

void Connections::sweep() {
  if (!closed_.empty()) closed_.clear();
}

Context::Context(EventLoop& on_loop, const ServerOptions& options, Application& to,
                 ipc::WorkerRecord& count_in, const Log& log_to)
    : loop(on_loop),
      application(to),
      counters(count_in),
      log(log_to),
      limits{options.limit_request_line, options.limit_headers, options.limit_header_size},
      limit_body(options.limit_body),
      deadlines(on_loop, {options.header_timeout, options.body_timeout, options.keep_alive, kLinger,
                          options.write_timeout, kParting, options.request_timeout, kHalfClosed}),
      forwarded(options),
      heads(options),
      access_log(options.access_log_fd, log),
      describe_refusal(options.refusal ? options.refusal : &as_text),
      read_buffer(kReadBuffer),
      exchanges(std::make_shared<ExchangePool>(count_in, [this] { on_one_gone(); })),
      on_one_gone([] {}) {}

Context::~Context() {
  while (connections.size() > 0) connections.open().back()->cut();
  connections.sweep();
  exchanges->orphan();
}

void count_request(ipc::WorkerRecord& counters, int status) {
  const int status_class = status / 100;
  const bool known = status_class >= 1 && status_class <= 5;
  bump(counters.requests[known ? static_cast<std::size_t>(status_class) : 0]);
}

}  // namespace mgr::server
