#include <sys/socket.h>

#include "tests/common/server/support.h"

namespace mgr::server {
namespace {

std::string get(std::string_view path) {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n\r\n";
}

// Three requests with bodies of each kind, and what they are answered with.
const std::string kThree =
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst"
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    "3\r\nsec\r\n3;x\r\nond\r\n0\r\n\r\n"
    "\r\nGET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

class Pipelining : public ServerTest {
 protected:
  Pipelining() {
    application.handlers["/echo"] = application.body_handler = [](Exchange& exchange) {
      if (exchange.body_complete()) answer(exchange, 200, exchange.body());
    };
    application.handlers["/later"] = [](Exchange&) {};
  }
  void expect_three(Client& client) {
    EXPECT_EQ(client.response().body, "first");
    EXPECT_EQ(client.response().body, "second");
    EXPECT_EQ(client.response().body, "");
    client.read_to_end();
    EXPECT_EQ(client.received, "");
  }
};

TEST_F(Pipelining, works_whatever_byte_the_input_is_split_at) {
  start();
  for (std::size_t at = 0; at <= kThree.size(); ++at) {
    SCOPED_TRACE(at);
    Client client = connect();
    client.send_and_settle(kThree.substr(0, at));
    client.send(kThree.substr(at));
    expect_three(client);
  }
}

TEST_F(Pipelining, works_byte_by_byte) {
  start();
  Client client = connect();
  for (const char c : kThree) client.send_and_settle({&c, 1});
  expect_three(client);
}

TEST_F(Pipelining, begins_the_next_request_only_when_the_response_is_complete) {
  start();
  Client client = connect();
  client.send(get("/later") + get("/second") + get("/later") + get("/fourth"));
  ASSERT_TRUE(turn_until([&] { return application.seen.size() == 1; }));
  turn_for(milliseconds(20));
  EXPECT_EQ(application.seen.size(), 1u);
  application.held[0]->respond(200, "text/plain", "one");
  EXPECT_EQ(application.seen.size(), 3u) << "the second is answered at once, the third waits";
  EXPECT_EQ(client.response().body, "one");
  EXPECT_EQ(client.response().body, "hello");
  EXPECT_EQ(server->in_flight(), 2u) << "complete, but not released";
  answer(*application.held[1], 200, "three");
  EXPECT_EQ(client.response().body, "three");
  EXPECT_EQ(client.response().body, "hello");
  application.held[0]->release();
  EXPECT_EQ(server->in_flight(), 0u);
  EXPECT_EQ(counters.in_flight.load(), 0u);
}

TEST_F(Pipelining, stops_reading_while_a_request_waits) {
  start();
  Client client = connect();
  client.send(get("/later"));
  ASSERT_TRUE(turn_until([&] { return application.seen.size() == 1; }));
  std::string flood;
  while (flood.size() < 200'000) flood += get("/flood");
  const std::size_t count = flood.size() / get("/flood").size();
  std::size_t sent = 0;
  const auto give_up = std::chrono::steady_clock::now() + milliseconds(2000);
  while (sent < flood.size() && std::chrono::steady_clock::now() < give_up) {
    const ssize_t n = ::send(client.fd(), flood.data() + sent, flood.size() - sent, MSG_DONTWAIT);
    if (n > 0) sent += static_cast<std::size_t>(n);
    loop.run_nowait();
  }
  ASSERT_EQ(sent, flood.size());
  turn_for(milliseconds(50));
  EXPECT_EQ(application.seen.size(), 1u);
  EXPECT_LE(counters.bytes_in.load(), 70'000u) << "one read beyond the request";
  answer(*application.held[0], 200, "first");
  EXPECT_EQ(client.response().body, "first");
  for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(client.response().body, "hello");
}

TEST_F(Pipelining, waits_for_a_client_that_does_not_read_its_answers) {
  const std::string big(50'000, 'x');
  application.handlers["/big"] = [&](Exchange& exchange) { answer(exchange, 200, big); };
  start();
  Client client = connect();
  std::string requests;
  for (int i = 0; i < 1000; ++i) requests += get("/big");
  client.send(requests);
  turn_for(milliseconds(200));
  EXPECT_LT(application.seen.size(), 400u) << "50 MB are not kept for it";
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(client.response().body.size(), big.size());
}

TEST_F(Pipelining, answers_what_came_before_the_end_of_input) {
  start();
  Client client = connect();
  client.send(get("/later") + get("/second") + get("/third"));
  client.half_close();
  ASSERT_TRUE(turn_until([&] { return application.seen.size() == 1; }));
  turn_for(milliseconds(20));
  EXPECT_EQ(application.disconnects, 0);
  answer(*application.held[0], 200, "first");
  EXPECT_EQ(client.response().body, "first");
  EXPECT_EQ(client.response().body, "hello");
  EXPECT_EQ(client.response().body, "hello");
  client.read_to_end();
}

TEST_F(Pipelining, ignores_what_comes_after_a_last_request) {
  start();
  Client client = connect();
  client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + get("/second"));
  EXPECT_EQ(client.response().body, "hello");
  client.read_to_end();
  EXPECT_FALSE(client.was_reset);
  EXPECT_EQ(client.received, "");
  EXPECT_EQ(application.seen.size(), 1u);
}

}  // namespace
}  // namespace mgr::server
