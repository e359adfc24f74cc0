#include "tests/common/server/support.h"

namespace mgr::server {
namespace {

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

class Basics : public ServerTest {};

TEST_F(Basics, a_connection_serves_many_requests) {
  start();
  Client client = connect();
  for (int i = 0; i < 5; ++i) {
    client.send(kGet);
    const auto response = client.response();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "hello");
    EXPECT_EQ(response.field("server"), "mgr");
    EXPECT_EQ(response.field("date").size(), 29u);
    EXPECT_FALSE(response.has("Connection:"));
  }
  EXPECT_EQ(server->connections(), 1u);
  EXPECT_EQ(requests(2), 5u);
  EXPECT_EQ(counters.connections_total.load(), 1u);
}

TEST_F(Basics, a_body_is_received_and_echoed) {
  start();
  application.handlers["/echo"] = [](Exchange& exchange) {
    if (exchange.body_complete()) answer(exchange, 200, exchange.body());
  };
  application.body_handler = application.handlers["/echo"];
  Client client = connect();
  client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello");
  client.send_and_settle("");
  client.send(" world");
  EXPECT_EQ(client.response().body, "hello world");
  client.send(
      "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: x\r\n\r\n");
  EXPECT_EQ(client.response().body, "hello world");
}

}  // namespace
}  // namespace mgr::server
