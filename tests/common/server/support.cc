#include "tests/common/server/support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>

namespace mgr::server {
namespace {

using Clock = std::chrono::steady_clock;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

}  // namespace

void Client::send(std::string_view bytes) {
  const auto give_up = Clock::now() + milliseconds(5000);
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN) {
      ASSERT_LT(Clock::now(), give_up);
      loop_.run_nowait();
    } else {
      return;  // the peer has closed
    }
  }
}

void Client::send_and_settle(std::string_view bytes) {
  send(bytes);
  for (int i = 0; i < 3; ++i) loop_.run_nowait();
}

void Client::read_until(const std::function<bool()>& enough, milliseconds limit) {
  const auto give_up = Clock::now() + limit;
  char buffer[65536];
  while (!enough() && !eof && Clock::now() < give_up) {
    loop_.run_nowait();
    const ssize_t n = ::recv(fd_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (n > 0) {
      received.append(buffer, static_cast<std::size_t>(n));
    } else if (n == 0) {
      eof = true;
    } else if (errno != EAGAIN) {
      eof = was_reset = true;
    } else {
      pollfd poll{fd_.get(), POLLIN, 0};
      ::poll(&poll, 1, 1);
    }
  }
}

void Client::read_until_contains(std::string_view text) {
  read_until([&] { return received.find(text) != std::string::npos; });
  EXPECT_NE(received.find(text), std::string::npos) << "got: " << received.substr(0, 500);
}

std::string Client::read_to_end() {
  read_until([] { return false; });
  EXPECT_TRUE(eof) << "got: " << received.substr(0, 500);
  return received;
}

void Client::half_close() {
  ::shutdown(fd_.get(), SHUT_WR);
}

void Client::reset() {
  const linger at_once{1, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  fd_.reset();
}

std::string Client::Response::field(std::string_view name) const {
  const std::string all = lower(head);
  const std::size_t at = all.find("\r\n" + lower(std::string(name)) + ": ");
  if (at == std::string::npos) return {};
  const std::size_t begin = at + 2 + name.size() + 2;
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

bool Client::take_body(Response& response, std::size_t from, bool head_request, std::size_t& end) {
  const std::string length = response.field("content-length");
  if (head_request || response.status < 200 || response.status == 204 || response.status == 304) {
    end = from;
    return true;
  }
  if (!length.empty()) {
    end = from + std::stoul(length);
    if (received.size() < end) return false;
    response.body = received.substr(from, end - from);
    return true;
  }
  if (response.field("transfer-encoding") != "chunked") {
    end = received.size();
    response.body = received.substr(from);
    return eof;
  }
  response.body.clear();
  std::size_t at = from;
  for (;;) {
    const std::size_t line = received.find("\r\n", at);
    if (line == std::string::npos) return false;
    const std::size_t size = std::stoul(received.substr(at, line - at), nullptr, 16);
    if (received.size() < line + 2 + size + 2) return false;
    response.body += received.substr(line + 2, size);
    at = line + 2 + size + 2;
    if (size == 0) break;
  }
  end = at;
  return true;
}

Client::Response Client::response(bool head_request) {
  Response response;
  std::size_t end = 0;
  const auto complete = [&] {
    const std::size_t head_end = received.find("\r\n\r\n");
    if (head_end == std::string::npos) return false;
    response.head = received.substr(0, head_end + 4);
    response.status = std::stoi(response.head.substr(9, 3));
    return take_body(response, head_end + 4, head_request, end);
  };
  read_until(complete);
  if (!complete()) {
    ADD_FAILURE() << "no whole response; got: " << received.substr(0, 500);
    return Response();
  }
  received.erase(0, end);
  return response;
}

void answer(Exchange& exchange, int status, std::string_view body) {
  exchange.respond(status, "text/plain", body);
  exchange.release();
}

void TestApplication::on_request(Exchange& exchange) noexcept {
  const Request& request = exchange.request();
  seen.push_back(std::string(request.method) + " " + std::string(request.target));
  const auto found = handlers.find(request.raw_path);
  if (found == handlers.end()) return answer(exchange, 200, "hello");
  held.push_back(&exchange);
  exchange.set_observer(this);
  found->second(exchange);
}

void TestApplication::on_body(Exchange& exchange) noexcept {
  ++bodies;
  if (body_handler) body_handler(exchange);
}

void TestApplication::on_drain(Exchange& exchange) noexcept {
  ++drains;
  if (drain_handler) drain_handler(exchange);
}

void TestApplication::on_disconnect(Exchange& exchange) noexcept {
  ++disconnects;
  if (disconnect_handler) disconnect_handler(exchange);
}

UniqueFd listen_on_loopback(int& port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(fd.get(), 512), 0);
  socklen_t length = sizeof address;
  EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  port = ntohs(address.sin_port);
  return fd;
}

ServerTest::ServerTest() : log(2, LogFormat::text, LogLevel::error, "test") {}

ServerTest::~ServerTest() {
  server.reset();
  if (!unix_path.empty()) ::unlink(unix_path.c_str());
}

void ServerTest::start(ServerOptions options) {
  server = std::make_unique<Server>(loop, std::move(options), application, counters, log);
  server->add_listener(1, listen_on_loopback(port), "127.0.0.1:0", Server::Sharing::own);
}

void ServerTest::start_unix(ServerOptions options, Application* instead) {
  server = std::make_unique<Server>(loop, std::move(options), instead ? *instead : application,
                                    counters, log);
  unix_path = testing::TempDir() + "mgr-server-test-" + std::to_string(::getpid()) + ".sock";
  ::unlink(unix_path.c_str());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  unix_path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(fd.get(), 512), 0);
  server->add_listener(1, std::move(fd), "unix:" + unix_path, Server::Sharing::shared);
}

Client ServerTest::connect() {
  UniqueFd fd;
  if (unix_path.empty()) {
    fd = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  } else {
    fd = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    unix_path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  return Client(loop, std::move(fd));
}

bool ServerTest::turn_until(const std::function<bool()>& done, milliseconds limit) {
  const auto give_up = Clock::now() + limit;
  while (!done()) {
    if (Clock::now() >= give_up) return false;
    loop.run_nowait();
    ::usleep(200);
  }
  return true;
}

void ServerTest::turn_for(milliseconds time) {
  turn_until([] { return false; }, time);
}

std::string ServerTest::exchange_bytes(std::string_view request) {
  Client client = connect();
  client.send(request);
  return client.read_to_end();
}

int ServerTest::status_of(std::string_view request) {
  Client client = connect();
  client.send(request);
  return client.response().status;
}

}  // namespace mgr::server
