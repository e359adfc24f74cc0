#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>

#include "tests/common/server/support.h"
#include "tests/tools/count_allocations.h"

namespace mgr::server {
namespace {

// Answers "hello", or echoes a body, without allocating.
class Quiet final : public Application, public ExchangeObserver {
 public:
  void on_request(Exchange& exchange) noexcept override {
    exchange.set_observer(this);
    on_body(exchange);
  }
  void on_body(Exchange& exchange) noexcept override {
    if (!exchange.body_complete()) return;
    static constexpr std::array<HeaderField, 2> kFields = {
        HeaderField{"content-type", "text/plain"}, HeaderField{"x-some", "thing"}};
    exchange.send_head(200, kFields);
    if (exchange.request().has_body) {
      exchange.send_body(exchange.body(), true);
      exchange.send_body("", false);
    } else {
      exchange.send_body("hello", false);
    }
    exchange.release();
  }
  void on_drain(Exchange&) noexcept override {}
  void on_disconnect(Exchange&) noexcept override {}
};

class Allocations : public ServerTest {
 protected:
  // Sends the request and turns the loop until the answer is there.
  void round(int fd, std::string_view request) {
    ASSERT_EQ(::send(fd, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
    std::array<char, 65536> buffer;
    for (int turns = 0; turns < 1000; ++turns) {
      loop.run_nowait();
      if (::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT) > 0) return;
    }
    FAIL() << "no answer";
  }
  std::size_t per_hundred(std::string_view request) {
    start_unix({}, &quiet);
    Client client = connect();
    for (int i = 0; i < 10; ++i) round(client.fd(), request);
    const std::size_t before = allocations;
    for (int i = 0; i < 100; ++i) round(client.fd(), request);
    return allocations - before;
  }

  Quiet quiet;
};

// The Date of a new second may take one.
constexpr std::size_t kForDates = 4;

TEST_F(Allocations, of_a_plain_request_are_none) {
  EXPECT_LE(
      per_hundred("GET /path?query HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: x/1.0\r\n"
                  "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nX-A: b\r\nX-C: d\r\n\r\n"),
      kForDates);
}

TEST_F(Allocations, of_a_request_with_a_body_and_a_streamed_answer_are_none) {
  const std::string body(10'000, 'x');
  EXPECT_LE(per_hundred("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n" + body),
            kForDates);
}

TEST_F(Allocations, of_a_connection_are_few) {
  start_unix({}, &quiet);
  for (int i = 0; i < 20; ++i) {
    Client client = connect();
    round(client.fd(), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  }
  std::vector<Client> clients;
  clients.reserve(100);
  const std::size_t before = allocations;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(connect());
    round(clients.back().fd(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  }
  EXPECT_LE(allocations - before, 100u * 6);
}

}  // namespace
}  // namespace mgr::server
