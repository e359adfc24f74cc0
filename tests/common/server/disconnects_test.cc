#include <sys/socket.h>

#include "tests/common/server/holding.h"

namespace mgr::server {
namespace {

class Disconnects : public HoldingTest {};

TEST_F(Disconnects, a_reset_is_told_once) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  client.reset();
  ASSERT_TRUE(turn_until([&] { return application.disconnects > 0; }));
  turn_for(milliseconds(20));
  EXPECT_EQ(application.disconnects, 1);
  EXPECT_EQ(server->connections(), 0u);
  EXPECT_EQ(server->in_flight(), 1u);
  EXPECT_EQ(exchange.send_head(200, {}), SendResult::closed);
  EXPECT_EQ(exchange.request().method, "GET") << "the exchange is still valid";
  EXPECT_EQ(exchange.request().client->host, "127.0.0.1");
  exchange.respond(200, "text/plain", "x");
  exchange.abort();
  exchange.release();
  EXPECT_EQ(requests(0), 1u);
}

TEST_F(Disconnects, a_half_close_is_no_end_of_input_where_the_response_comes_soon) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  client.half_close();
  turn_for(milliseconds(200));
  EXPECT_EQ(application.input_ends, 0);
  EXPECT_FALSE(exchange.input_ended());
  answer(exchange, 200, "soon");
  EXPECT_TRUE(client.read_to_end().ends_with("\r\n\r\nsoon"));
  EXPECT_TRUE(turn_until([&] { return server->connections() == 0; }, milliseconds(500)));
}

TEST_F(Disconnects, a_half_close_is_no_end_of_input_where_what_is_sent_is_taken) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  client.half_close();
  turn_for(milliseconds(50));
  exchange.send_head(200, {});
  exchange.send_body("first", true);
  turn_for(milliseconds(1500));
  EXPECT_EQ(application.input_ends, 0);
  EXPECT_EQ(application.disconnects, 0);
  exchange.send_body("last", false);
  exchange.release();
  EXPECT_NE(client.read_to_end().find("last"), std::string::npos);
}

TEST_F(Disconnects, a_close_is_an_end_of_input_after_a_second_of_silence) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  client.close();
  const auto began = std::chrono::steady_clock::now();
  ASSERT_TRUE(turn_until([&] { return application.input_ends == 1; }));
  EXPECT_GE(std::chrono::steady_clock::now() - began, milliseconds(900));
  exchange.release();
}

TEST_F(Disconnects, a_close_is_told_as_one_by_what_is_sent_before) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  client.close();
  turn_for(milliseconds(50));
  exchange.send_head(200, {});
  exchange.send_body("to nobody", true);
  ASSERT_TRUE(turn_until([&] { return application.disconnects == 1; }, milliseconds(500)));
  EXPECT_EQ(application.input_ends, 0);
  exchange.release();
}

TEST_F(Disconnects, a_half_close_after_a_complete_request_is_an_end_of_input_alone) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  EXPECT_FALSE(exchange.input_ended());
  client.half_close();
  ASSERT_TRUE(turn_until([&] { return application.input_ends > 0; }));
  turn_for(milliseconds(50));
  EXPECT_EQ(application.input_ends, 1);
  EXPECT_TRUE(exchange.input_ended());
  EXPECT_EQ(application.disconnects, 0);
  answer(exchange, 200, "still there");
  EXPECT_TRUE(client.read_to_end().ends_with("\r\n\r\nstill there"));
  EXPECT_NE(client.received.find("Connection: close\r\n"), std::string::npos);
}

TEST_F(Disconnects, a_half_close_does_not_spin_the_loop) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  client.half_close();
  turn_for(milliseconds(50));
  int turns = 0;
  TurnWatcher watcher(
      loop, [] {}, [&] { ++turns; });
  Timer end(loop, [] {});
  end.start(milliseconds(200));
  while (end.active()) loop.run_once();
  EXPECT_LE(turns, 3);
  answer(exchange, 200, "x");
}

TEST_F(Disconnects, a_reset_after_a_half_close_is_told) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  client.half_close();
  turn_for(milliseconds(50));
  client.reset();
  // The reset of a closed direction comes when something is sent.
  exchange.send_head(200, {});
  exchange.send_body("a", true);
  turn_for(milliseconds(20));
  exchange.send_body("b", true);
  EXPECT_TRUE(turn_until([&] { return application.disconnects == 1; }));
  exchange.release();
}

TEST_F(Disconnects, a_half_close_in_the_middle_of_a_body_is_one) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client, post("/later", 10, "hello"));
  client.half_close();
  ASSERT_TRUE(turn_until([&] { return application.disconnects == 1; }));
  EXPECT_EQ(exchange.body(), "hello");
  exchange.consume(5);
  EXPECT_FALSE(exchange.body_complete());
  exchange.release();
  client.read_to_end();
  EXPECT_EQ(client.received, "");
}

TEST_F(Disconnects, a_half_close_in_the_middle_of_a_head_ends_in_silence) {
  start();
  Client client = connect();
  client.send("GET / HTTP/1.1\r\n");
  client.half_close();
  EXPECT_EQ(client.read_to_end(), "");
  EXPECT_TRUE(turn_until([&] { return server->connections() == 0; }));
}

TEST_F(Disconnects, a_close_of_an_idle_connection_is_answered_at_once) {
  start();
  Client client = connect();
  client.send(kGet);
  client.response();
  client.half_close();
  client.read_to_end();
  EXPECT_TRUE(turn_until([&] { return server->connections() == 0; }, milliseconds(500)));
}

TEST_F(Disconnects, a_Unix_peer_that_closes_is_gone_at_once) {
  start_unix();
  Client client = connect();
  Exchange& exchange = hold(client);
  client.close();
  ASSERT_TRUE(turn_until([&] { return application.disconnects == 1; }));
  exchange.release();
}

TEST_F(Disconnects, a_Unix_peer_that_closes_after_a_half_close_is_gone) {
  start_unix();
  Client client = connect();
  Exchange& exchange = hold(client);
  client.half_close();
  turn_for(milliseconds(50));
  EXPECT_EQ(application.disconnects, 0);
  client.close();
  ASSERT_TRUE(turn_until([&] { return application.disconnects == 1; }));
  exchange.release();
}

TEST_F(Disconnects, are_seen_while_reading_is_stopped_by_an_unread_body) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client, post("/later", 10'000'000));
  const std::string piece(65536, 'x');
  for (int i = 0; i < 200; ++i) {
    ::send(client.fd(), piece.data(), piece.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    loop.run_nowait();
  }
  EXPECT_EQ(application.disconnects, 0);
  client.reset();
  ASSERT_TRUE(turn_until([&] { return application.disconnects == 1; }));
  EXPECT_GE(exchange.body().size(), 65536u) << "what came stays readable";
  exchange.release();
}

TEST_F(Disconnects, are_seen_while_a_pipelined_request_waits) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client, std::string(kLater) + std::string(kGet));
  client.send_and_settle(kGet);
  client.send_and_settle(kGet);
  client.reset();
  ASSERT_TRUE(turn_until([&] { return application.disconnects == 1; }));
  exchange.release();
  EXPECT_EQ(application.seen.size(), 1u);
}

TEST_F(Disconnects, of_a_stopped_reader_that_half_closed_come_after_its_body) {
  start();
  const std::string body(300'000, 'x');
  Client client = connect();
  Exchange& exchange = hold(client, post("/later", body.size()));
  client.send(body);
  client.half_close();
  turn_for(milliseconds(50));
  EXPECT_EQ(application.disconnects, 0);
  std::size_t got = 0;
  ASSERT_TRUE(turn_until([&] {
    got += exchange.body().size();
    exchange.consume(exchange.body().size());
    return exchange.body_complete() && exchange.body().empty();
  }));
  EXPECT_EQ(got, body.size());
  answer(exchange, 200, "all");
  EXPECT_TRUE(client.read_to_end().ends_with("all"));
  EXPECT_EQ(application.disconnects, 0);
}

TEST_F(Disconnects, by_a_send_are_told_too) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.send_head(200, {});
  client.reset();
  ::usleep(20'000);
  EXPECT_EQ(exchange.send_body("x", true), SendResult::closed);
  EXPECT_EQ(application.disconnects, 1);
  exchange.release();
}

TEST_F(Disconnects, urgent_data_before_a_half_close_does_not_spin_the_loop) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  ASSERT_EQ(::send(client.fd(), "!", 1, MSG_OOB), 1);
  client.half_close();
  turn_for(milliseconds(50));
  int turns = 0;
  TurnWatcher watcher(
      loop, [] {}, [&] { ++turns; });
  Timer end(loop, [] {});
  end.start(milliseconds(200));
  while (end.active()) loop.run_once();
  EXPECT_LE(turns, 3);
  answer(exchange, 200, "x");
  EXPECT_TRUE(client.read_to_end().ends_with("x"));
}

}  // namespace
}  // namespace mgr::server
