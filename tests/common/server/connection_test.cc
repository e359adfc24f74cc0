#include "tests/common/server/holding.h"

namespace mgr::server {
namespace {

// ---- output

class Output : public HoldingTest {};

TEST_F(Output, says_full_and_then_drained) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  const std::string piece(100'000, 'x');
  exchange.send_head(200, {});
  int pieces = 0;
  while (exchange.send_body(piece, true) == SendResult::sent) ASSERT_LT(++pieces, 1000);
  ++pieces;
  EXPECT_EQ(application.drains, 0);
  client.read_until([&] { return application.drains > 0; });
  EXPECT_EQ(application.drains, 1);
  exchange.send_body("", false);
  EXPECT_EQ(client.response().body.size(), piece.size() * static_cast<std::size_t>(pieces));
  EXPECT_EQ(application.drains, 1);
  exchange.release();
}

TEST_F(Output, of_a_large_response_arrives_whole_even_when_the_connection_then_ends) {
  start();
  std::string body(5'000'000, ' ');
  for (std::size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>('a' + i % 23);
  application.handlers["/big"] = [&](Exchange& exchange) { answer(exchange, 200, body); };
  const std::string all =
      exchange_bytes("GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(all.ends_with("\r\n\r\n" + body));
}

TEST_F(Output, is_not_eaten_by_a_reset_when_the_client_is_still_sending) {
  start();
  ServerOptions options;
  options.limit_body = 1000;
  server.reset();
  start(options);
  for (int i = 0; i < 20; ++i) {
    Client client = connect();
    client.send(post("/", 100'000) + std::string(100'000, 'x'));
    EXPECT_EQ(client.response().status, 413);
    client.read_to_end();
    EXPECT_FALSE(client.was_reset);
  }
}

TEST_F(Output, a_client_that_has_asked_for_the_end_is_not_waited_for) {
  start();
  for (const std::string_view request :
       {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"}) {
    Client client = connect();
    client.send(request);
    EXPECT_EQ(client.response().status, 200);
    EXPECT_TRUE(turn_until([&] { return server->connections() == 0; }, milliseconds(500)));
    client.read_to_end();
    EXPECT_TRUE(client.eof);
    EXPECT_FALSE(client.was_reset);
  }
}

TEST_F(Output, a_client_that_has_asked_for_the_end_with_a_body_unread_is_waited_for) {
  start();
  application.handlers["/early"] = [](Exchange& exchange) { answer(exchange, 200, "no"); };
  Client client = connect();
  client.send("POST /early HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\nx");
  EXPECT_EQ(client.response().status, 200);
  client.send("12345678");
  client.read_to_end();
  EXPECT_TRUE(client.eof);
  EXPECT_FALSE(client.was_reset);
}

TEST_F(Output, a_client_that_never_closes_is_closed_after_a_second) {
  start();
  server->close_after_response();
  Client client = connect();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  client.read_to_end();
  const auto begin = Clock::now();
  EXPECT_EQ(server->connections(), 1u);
  ASSERT_TRUE(turn_until([&] { return server->connections() == 0; }, milliseconds(3000)));
  EXPECT_GE(Clock::now() - begin, milliseconds(900));
}

// ---- what is left of a request body

class Leftovers : public HoldingTest {};

constexpr std::string_view kChunkedPost =
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const std::string kLargeChunk = "8000\r\n" + std::string(0x8000, 'x') + "\r\n";

TEST_F(Leftovers, a_small_rest_is_drained_and_the_connection_stays) {
  start();
  Client client = connect();
  client.send(post("/", 1000, std::string(10, 'x')));
  EXPECT_FALSE(client.response().has("Connection"));
  client.send(std::string(990, 'x') + std::string(kGet));
  EXPECT_EQ(client.response().body, "hello");
  EXPECT_EQ(application.seen.size(), 2u);
}

TEST_F(Leftovers, a_small_chunked_rest_is_drained_and_the_connection_stays) {
  start();
  Client client = connect();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab");
  EXPECT_FALSE(client.response().has("Connection"));
  client.send("c\r\n0\r\n\r\n" + std::string(kGet));
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(Leftovers, a_large_rest_ends_the_connection_and_says_so) {
  start();
  Client client = connect();
  client.send(post("/", 65'537));
  EXPECT_TRUE(client.response().has("Connection: close\r\n"));
  client.send(std::string(65'537, 'x') + std::string(kGet));
  client.read_to_end();
  EXPECT_FALSE(client.was_reset);
  EXPECT_EQ(application.seen.size(), 1u);
}

TEST_F(Leftovers, a_large_chunked_rest_loses_no_request_as_the_head_promised_keep_alive) {
  start();
  Client client = connect();
  client.send(kChunkedPost);
  EXPECT_FALSE(client.response().has("Connection"));
  for (int i = 0; i < 5; ++i) client.send_and_settle(kLargeChunk);
  client.send("0\r\n\r\n" + std::string(kGet));
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(Leftovers, a_large_rest_after_a_streamed_response_loses_no_request) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client, post("/later", 300'000));
  exchange.send_head(200, {});
  exchange.send_body("a", true);
  exchange.send_body("b", false);
  exchange.release();
  EXPECT_FALSE(client.response().has("Connection"));
  for (int i = 0; i < 3; ++i) client.send_and_settle(std::string(100'000, 'x'));
  client.send(kGet);
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(Leftovers, beyond_limit_body_end_the_connection) {
  ServerOptions options;
  options.limit_body = 3 * 0x8000;
  start(options);
  Client client = connect();
  client.send(kChunkedPost);
  EXPECT_FALSE(client.response().has("Connection"));
  for (int i = 0; i < 3; ++i) client.send_and_settle(kLargeChunk);
  client.send("0\r\n\r\n" + std::string(kGet));
  EXPECT_EQ(client.response().body, "hello") << "the limit itself is no more than allowed";
  client.send(kChunkedPost);
  client.response();
  for (int i = 0; i < 3; ++i) client.send_and_settle(kLargeChunk);
  client.send("1\r\nx\r\n0\r\n\r\n" + std::string(kGet));
  client.read_to_end();
  EXPECT_EQ(client.received, "");
  EXPECT_EQ(application.seen.size(), 3u);
}

TEST_F(Leftovers, count_what_came_before_the_response_towards_limit_body) {
  ServerOptions options;
  options.limit_body = 10;
  start(options);
  Client client = connect();
  Exchange& exchange =
      hold(client, "POST /later HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  client.send("6\r\n012345\r\n");
  ASSERT_TRUE(turn_until([&] { return exchange.body().size() == 6; }));
  answer(exchange, 200, "early");
  EXPECT_FALSE(client.response().has("Connection"));
  client.send("5\r\n01234\r\n0\r\n\r\n" + std::string(kGet));
  client.read_to_end();
  EXPECT_EQ(client.received, "");
}

TEST_F(Leftovers, nonsense_after_the_response_is_not_taken_for_a_request) {
  start();
  Client client = connect();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  client.response();
  client.send(kGet);
  client.read_to_end();
  EXPECT_EQ(client.received, "");
  EXPECT_EQ(application.seen.size(), 1u);
}

// ---- draining and closing

class Draining : public HoldingTest {};

TEST_F(Draining, lets_requests_finish_and_answers_idle_connections_once_more) {
  start();
  Client busy = connect();
  Exchange& exchange = hold(busy);
  Client idle = connect();
  idle.send(kGet);
  EXPECT_FALSE(idle.response().has("Connection"));
  server->remove_all_listeners(Server::Queued::take);
  int told = 0;
  server->drain([&] { ++told; });
  turn_for(milliseconds(50));
  EXPECT_EQ(told, 0);
  EXPECT_FALSE(idle.eof) << "an idle connection is left alone";
  idle.send(kGet);
  EXPECT_TRUE(idle.response().has("Connection: close\r\n"));
  idle.read_to_end();
  idle.close();
  answer(exchange, 200, "last");
  EXPECT_TRUE(busy.response().has("Connection: close\r\n"));
  busy.read_to_end();
  busy.close();
  ASSERT_TRUE(turn_until([&] { return told == 1; }));
  turn_for(milliseconds(20));
  EXPECT_EQ(told, 1);
}

TEST_F(Draining, of_an_idle_connection_takes_its_keep_alive) {
  ServerOptions options;
  options.keep_alive = milliseconds(200);
  start(options);
  Client client = connect();
  client.send(kGet);
  client.response();
  const auto begin = Clock::now();
  bool told = false;
  server->drain([&] { told = true; });
  client.read_to_end();
  EXPECT_GE(Clock::now() - begin, milliseconds(150));
  client.close();
  ASSERT_TRUE(turn_until([&] { return told; }));
}

TEST_F(Draining, at_the_end_of_the_service_parts_from_idle_connections_after_a_second) {
  start();  // with 5 s of keep-alive
  Client idle = connect();
  idle.send(kGet);
  idle.response();
  Client silent = connect();
  turn_for(milliseconds(20));
  bool told = false;
  const auto begin = Clock::now();
  server->drain([&] { told = true; });
  server->part_from_idle();
  turn_for(milliseconds(500));
  idle.send(kGet);
  EXPECT_TRUE(idle.response().has("Connection: close\r\n")) << "until then it is served";
  idle.read_to_end();
  idle.close();
  silent.read_to_end();
  EXPECT_GE(Clock::now() - begin, milliseconds(900));
  EXPECT_LT(Clock::now() - begin, milliseconds(4000));
  silent.close();
  ASSERT_TRUE(turn_until([&] { return told; }));
}

TEST_F(Draining, waits_for_exchanges_that_are_not_released) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  bool told = false;
  server->drain([&] { told = true; });
  exchange.respond(200, "text/plain", "x");
  client.read_to_end();
  client.close();
  ASSERT_TRUE(turn_until([&] { return server->connections() == 0; }));
  turn_for(milliseconds(20));
  EXPECT_FALSE(told);
  exchange.release();
  ASSERT_TRUE(turn_until([&] { return told; }));
}

TEST_F(Draining, of_nothing_tells_from_a_turn_of_the_loop) {
  start();
  bool told = false;
  server->drain([&] { told = true; });
  EXPECT_FALSE(told);
  ASSERT_TRUE(turn_until([&] { return told; }));
}

TEST_F(Draining, may_destroy_the_server_when_told) {
  start();
  server->drain([&] { server.reset(); });
  ASSERT_TRUE(turn_until([&] { return server == nullptr; }));
}

TEST_F(Draining, close_after_response_goes_on_accepting) {
  start();
  server->close_after_response();
  for (int i = 0; i < 2; ++i) {
    Client client = connect();
    client.send(kGet);
    EXPECT_TRUE(client.response().has("Connection: close\r\n"));
  }
}

TEST_F(Draining, keep_after_response_takes_it_back_until_a_drain) {
  start();
  server->close_after_response();
  server->keep_after_response();
  Client client = connect();
  for (int i = 0; i < 2; ++i) {
    client.send(kGet);
    EXPECT_FALSE(client.response().has("Connection: close\r\n"));
  }
  server->drain([] {});
  server->keep_after_response();
  client.send(kGet);
  EXPECT_TRUE(client.response().has("Connection: close\r\n"));
}

TEST_F(Draining, close_connections_cuts_and_tells) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  Client idle = connect();
  idle.send(kGet);
  idle.response();
  server->close_connections();
  EXPECT_EQ(server->connections(), 0u);
  EXPECT_EQ(application.disconnects, 1);
  exchange.release();
  client.read_to_end();
  idle.read_to_end();
  EXPECT_EQ(counters.connections.load(), 0u);
}

TEST_F(Draining, exchanges_outlive_the_server) {
  start();
  Client client = connect();
  Exchange& open = hold(client, post("/later", 10, "hello"));
  Client other = connect();
  Exchange& answered = hold(other);
  answered.respond(200, "text/plain", "x");
  ASSERT_TRUE(turn_until([&] { return open.body() == "hello"; }));
  server.reset();
  EXPECT_EQ(application.disconnects, 1);
  EXPECT_EQ(open.body(), "hello");
  EXPECT_EQ(open.request().server->host, "127.0.0.1");
  open.consume(5);
  open.want_body();
  EXPECT_EQ(open.send_head(200, {}), SendResult::closed);
  EXPECT_EQ(answered.request().target, "/later");
  answered.release();
  open.release();
}

TEST_F(Draining, an_application_may_cut_everything_from_inside_a_request) {
  application.handlers["/cut"] = [&](Exchange& exchange) {
    server->close_connections();
    EXPECT_TRUE(exchange.disconnected());
    exchange.release();
  };
  start();
  Client client = connect();
  client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n" + std::string(kGet));
  client.read_to_end();
  EXPECT_EQ(application.seen.size(), 1u);
}

TEST_F(Draining, an_exchange_may_be_released_inside_each_of_its_calls) {
  int released = 0;
  application.body_handler = [&](Exchange& exchange) {
    ++released;
    exchange.release();
  };
  start();
  Client client = connect();
  hold(client, post("/later", 10));
  client.send("hello");
  client.read_until_contains("500 Internal");
  EXPECT_EQ(released, 1);
}

}  // namespace
}  // namespace mgr::server
