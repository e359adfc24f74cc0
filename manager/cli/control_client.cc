#include "manager/cli/control_client.h"

#include <fmt/core.h>
#include <llhttp.h>
#include <sys/time.h>

#include <cctype>
#include <cerrno>

#include "common/net/address.h"

namespace mgr::cli {
namespace {

// For the supervisor to accept: it may be busy, or stopped.
constexpr std::chrono::seconds kConnectPatience{10};

void set_patience(int fd, int option, std::chrono::seconds patience) {
  const timeval time{patience.count(), 0};
  ::setsockopt(fd, SOL_SOCKET, option, &time, sizeof time);
}

// Collects one response from what llhttp reports.
class ResponseParser {
 public:
  explicit ResponseParser(ControlClient::Sink sink) : sink_(std::move(sink)) {
    llhttp_settings_init(&callbacks_);
    callbacks_.on_header_field = on_field;
    callbacks_.on_header_value = on_value;
    callbacks_.on_header_value_complete = on_value_complete;
    callbacks_.on_body = on_body;
    callbacks_.on_message_complete = on_complete;
    llhttp_init(&parser_, HTTP_RESPONSE, &callbacks_);
    parser_.data = this;
  }
  ResponseParser(const ResponseParser&) = delete;

  // False: no HTTP.
  bool feed(std::string_view data) {
    const llhttp_errno result = llhttp_execute(&parser_, data.data(), data.size());
    return result == HPE_OK || result == HPE_PAUSED;
  }
  // At the end of the stream, which may be the end of the body. False: it is cut.
  bool finish() {
    llhttp_finish(&parser_);
    return complete_;
  }
  bool complete() const { return complete_; }

  ControlResponse take() {
    response_.status = parser_.status_code;
    return std::move(response_);
  }

 private:
  static ResponseParser& self(llhttp_t* parser) {
    return *static_cast<ResponseParser*>(parser->data);
  }
  static int on_field(llhttp_t* parser, const char* at, std::size_t length) noexcept {
    for (std::size_t i = 0; i < length; ++i)
      self(parser).field_ += static_cast<char>(std::tolower(static_cast<unsigned char>(at[i])));
    return 0;
  }
  static int on_value(llhttp_t* parser, const char* at, std::size_t length) noexcept {
    if (self(parser).field_ == "content-type")
      self(parser).response_.content_type.append(at, length);
    return 0;
  }
  static int on_value_complete(llhttp_t* parser) noexcept {
    self(parser).field_.clear();
    return 0;
  }
  static int on_body(llhttp_t* parser, const char* at, std::size_t length) noexcept {
    if (self(parser).sink_ && parser->status_code == 200) {
      self(parser).sink_({at, length});
    } else {
      self(parser).response_.body.append(at, length);
    }
    return 0;
  }
  static int on_complete(llhttp_t* parser) noexcept {
    self(parser).complete_ = true;
    return HPE_PAUSED;
  }

  llhttp_settings_t callbacks_;
  ControlClient::Sink sink_;
  llhttp_t parser_;
  ControlResponse response_;
  std::string field_;
  bool complete_ = false;
};

Result<void> send_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno("send");
    data.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

}  // namespace

Result<ControlClient> ControlClient::connect(const std::string& address) {
  const Result<net::UnixAddress> target = net::make_unix_address(address);
  if (!target) return target.error();
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return Error::from_errno("socket");
  set_patience(fd.get(), SO_SNDTIMEO, kConnectPatience);
  if (::connect(fd.get(), target->get(), target->length) != 0) return Error::from_errno(address);
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
    return Error::from_errno(address);
  return ControlClient(std::move(fd), address, peer);
}

Result<ControlResponse> ControlClient::get(std::string_view path, std::chrono::seconds patience) {
  set_patience(fd_.get(), SO_RCVTIMEO, patience);
  return exchange(fmt::format(
      "GET {} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n",
      path));
}

Result<ControlResponse> ControlClient::stream(std::string_view path, Sink sink) {
  return exchange(
      fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path),
      std::move(sink));
}

Result<ControlResponse> ControlClient::post(std::string_view path, std::string_view json) {
  return change("POST", path, json);
}

Result<ControlResponse> ControlClient::put(std::string_view path, std::string_view json) {
  return change("PUT", path, json);
}

Result<ControlResponse> ControlClient::change(std::string_view method, std::string_view path,
                                              std::string_view json) {
  return exchange(fmt::format(
      "{} {} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n"
      "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
      method, path, json.size(), json));
}

Error ControlClient::failure(std::string_view what) const {
  return Error(fmt::format("{}: {}", address_, what));
}

Result<ControlResponse> ControlClient::exchange(std::string_view request, Sink sink) {
  if (Result<void> sent = send_all(fd_.get(), request); !sent)
    return std::move(sent).error().with(address_);
  ResponseParser parser(std::move(sink));
  char buffer[16384];
  while (!parser.complete()) {
    const ssize_t n = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return failure("no answer in time");
    if (n < 0) return Error::from_errno(address_);
    if (n == 0 && !parser.finish()) return failure("the supervisor left before it answered");
    if (n == 0) break;
    if (!parser.feed({buffer, static_cast<std::size_t>(n)}))
      return failure("the answer is no HTTP");
  }
  return parser.take();
}

}  // namespace mgr::cli
