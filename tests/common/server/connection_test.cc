#include <sys/socket.h>

#include "tests/common/server/support.h"

namespace mgr::server {
namespace {

using SendResult = Exchange::SendResult;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr std::string_view kLater = "GET /later HTTP/1.1\r\nHost: a\r\n\r\n";

std::string post(std::string_view path, std::size_t length, std::string_view body = "") {
  return "POST " + std::string(path) + " HTTP/1.1\r\nHost: a\r\nContent-Length: " +
         std::to_string(length) + "\r\n\r\n" + std::string(body);
}

class Connection : public ServerTest {
 protected:
  Connection() {
    application.handlers["/later"] = [](Exchange&) {};
  }
  // The exchange of the request that `client` sends and that the application holds.
  Exchange& hold(Client& client, std::string_view request = kLater) {
    const std::size_t before = application.held.size();
    client.send(request);
    EXPECT_TRUE(turn_until([&] { return application.held.size() > before; }));
    return *application.held.back();
  }
  milliseconds time_to_end(Client& client) {
    const auto begin = Clock::now();
    client.read_to_end();
    return std::chrono::duration_cast<milliseconds>(Clock::now() - begin);
  }
};

// ---- timeouts

class Timeouts : public Connection {
 protected:
  static ServerOptions short_ones() {
    ServerOptions options;
    options.header_timeout = milliseconds(150);
    options.body_timeout = milliseconds(150);
    options.write_timeout = milliseconds(150);
    options.keep_alive = milliseconds(150);
    return options;
  }
};

TEST_F(Timeouts, a_connection_that_sends_nothing_is_closed_in_silence) {
  start(short_ones());
  Client client = connect();
  EXPECT_GE(time_to_end(client).count(), 140);
  EXPECT_EQ(client.received, "");
  EXPECT_FALSE(client.was_reset);
}

TEST_F(Timeouts, a_head_that_does_not_end_is_408_however_it_trickles) {
  start(short_ones());
  Client client = connect();
  const auto begin = Clock::now();
  client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
  for (int i = 0; i < 100 && client.received.empty(); ++i) {
    client.send("y");
    client.read_until([&] { return !client.received.empty(); }, milliseconds(20));
  }
  EXPECT_EQ(client.response().status, 408);
  const auto took = std::chrono::duration_cast<milliseconds>(Clock::now() - begin);
  EXPECT_GE(took.count(), 140);
  EXPECT_LT(took.count(), 1000);
  EXPECT_TRUE(application.seen.empty());
}

TEST_F(Timeouts, an_idle_connection_is_closed_in_silence_after_keep_alive) {
  start(short_ones());
  Client client = connect();
  client.send(kGet);
  EXPECT_EQ(client.response().status, 200);
  EXPECT_GE(time_to_end(client).count(), 140);
  EXPECT_EQ(client.received, "");
}

TEST_F(Timeouts, keep_alive_begins_anew_with_each_response) {
  start(short_ones());
  Client client = connect();
  for (int i = 0; i < 4; ++i) {
    client.send(kGet);
    ASSERT_EQ(client.response().status, 200);
    turn_for(milliseconds(80));
  }
}

TEST_F(Timeouts, the_head_of_a_second_request_has_the_header_timeout) {
  ServerOptions options = short_ones();
  options.keep_alive = milliseconds(10000);
  start(options);
  Client client = connect();
  client.send(kGet);
  client.response();
  client.send("GET");
  EXPECT_EQ(client.response().status, 408);
}

TEST_F(Timeouts, a_silent_body_is_408_and_the_application_hears_of_it) {
  start(short_ones());
  Client client = connect();
  Exchange& exchange = hold(client, post("/later", 10, "hello"));
  EXPECT_EQ(client.response().status, 408);
  EXPECT_EQ(application.disconnects, 1);
  EXPECT_FALSE(exchange.body_complete());
  exchange.release();
}

TEST_F(Timeouts, a_silent_body_cuts_a_response_that_has_begun) {
  start(short_ones());
  Client client = connect();
  Exchange& exchange = hold(client, post("/later", 10, "hello"));
  exchange.send_head(200, {});
  exchange.send_body("abc", true);
  client.read_to_end();
  EXPECT_TRUE(client.received.ends_with("3\r\nabc\r\n"));
  EXPECT_EQ(application.disconnects, 1);
  exchange.release();
}

TEST_F(Timeouts, a_slow_body_that_moves_is_waited_for) {
  start(short_ones());
  application.body_handler = [](Exchange& exchange) {
    if (exchange.body_complete()) answer(exchange, 200, exchange.body());
  };
  Client client = connect();
  hold(client, post("/later", 5));
  for (const char c : std::string_view("hello")) {
    turn_for(milliseconds(80));
    client.send({&c, 1});
  }
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(Timeouts, an_application_that_thinks_is_not_timed_out) {
  start(short_ones());
  Client client = connect();
  Exchange& exchange = hold(client);
  turn_for(milliseconds(400));
  answer(exchange, 200, "at last");
  EXPECT_EQ(client.response().body, "at last");
}

TEST_F(Timeouts, a_body_that_the_application_does_not_read_is_not_the_clients_fault) {
  start(short_ones());
  application.body_handler = nullptr;
  Client client = connect();
  const std::string body(8'000'000, 'x');
  client.send(post("/later", body.size()));
  std::size_t sent = 0;
  const auto stop = Clock::now() + milliseconds(500);
  while (Clock::now() < stop) {
    const ssize_t n = ::send(client.fd(), body.data(), std::min<std::size_t>(body.size() - sent, 65536),
                             MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) sent += static_cast<std::size_t>(n);
    loop.run_nowait();
  }
  EXPECT_LT(sent, body.size()) << "reading has stopped";
  ASSERT_EQ(application.held.size(), 1u);
  EXPECT_LE(application.held[0]->body().size(), 129u * 1024);
  EXPECT_EQ(application.disconnects, 0);
  application.body_handler = [](Exchange& exchange) { exchange.consume(exchange.body().size()); };
  application.held[0]->consume(application.held[0]->body().size());
  client.send(std::string_view(body).substr(sent));
  ASSERT_TRUE(turn_until([&] { return application.held[0]->body_complete(); }));
  answer(*application.held[0], 200, "all");
  EXPECT_EQ(client.response().body, "all");
}

TEST_F(Timeouts, a_client_that_does_not_read_is_cut) {
  start(short_ones());
  Client client = connect();
  Exchange& exchange = hold(client);
  const std::string big(20'000'000, 'x');
  exchange.send_head(200, {});
  EXPECT_EQ(exchange.send_body(big, true), SendResult::full);
  ASSERT_TRUE(turn_until([&] { return application.disconnects == 1; }));
  EXPECT_TRUE(exchange.disconnected());
  EXPECT_EQ(exchange.send_body("x", true), SendResult::closed);
  exchange.release();
  EXPECT_EQ(server->connections(), 0u);
  EXPECT_EQ(requests(2), 1u);
}

TEST_F(Timeouts, a_slow_reader_that_reads_is_served_to_the_end) {
  start(short_ones());
  Client client = connect();
  Exchange& exchange = hold(client);
  const std::string big(3'000'000, 'x');
  exchange.respond(200, "text/plain", big);
  exchange.release();
  const auto begin = Clock::now();
  std::size_t got = 0;
  std::vector<char> buffer(100'000);
  while (got < big.size() && Clock::now() - begin < milliseconds(10000)) {
    turn_for(milliseconds(20));
    const ssize_t n = ::recv(client.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n > 0) got += static_cast<std::size_t>(n);
    if (n == 0) break;
  }
  EXPECT_GT(got, big.size());
  EXPECT_GT((Clock::now() - begin), milliseconds(300)) << "longer than its timeouts";
}

TEST_F(Timeouts, of_zero_are_off) {
  ServerOptions options = short_ones();
  options.header_timeout = options.keep_alive = milliseconds(0);
  start(options);
  Client client = connect();
  turn_for(milliseconds(300));
  client.send(kGet);
  EXPECT_EQ(client.response().status, 200);
  turn_for(milliseconds(300));
  client.send(kGet);
  EXPECT_EQ(client.response().status, 200);
}

TEST_F(Timeouts, do_not_strike_what_came_while_the_loop_was_busy) {
  start(short_ones());
  Client idle = connect();
  idle.send(kGet);
  EXPECT_EQ(idle.response().status, 200);
  Client begun = connect();
  begun.send_and_settle("GET / HTTP/1.1\r\n");
  Client body = connect();
  hold(body, post("/later", 5));
  application.body_handler = [](Exchange& exchange) { answer(exchange, 200, exchange.body()); };
  ::send(idle.fd(), kGet.data(), kGet.size(), 0);
  ::send(begun.fd(), "Host: a\r\n\r\n", 11, 0);
  ::send(body.fd(), "hello", 5, 0);
  ::usleep(400'000);
  EXPECT_EQ(idle.response().status, 200);
  EXPECT_EQ(begun.response().status, 200);
  EXPECT_EQ(body.response().body, "hello");
}

TEST_F(Timeouts, keep_alive_begins_when_a_slow_application_has_answered) {
  application.handlers["/"] = [](Exchange& exchange) {
    ::usleep(300'000);
    answer(exchange, 200, "slow");
  };
  start(short_ones());
  Client client = connect();
  client.send(kGet);
  EXPECT_EQ(client.response().status, 200);
  turn_for(milliseconds(50));
  client.send(kGet);
  EXPECT_EQ(client.response().status, 200);
}

TEST_F(Timeouts, leave_an_idle_loop_without_a_tick) {
  start(short_ones());
  {
    Client client = connect();
    client.send(kGet);
    client.response();
    time_to_end(client);
  }
  ASSERT_TRUE(turn_until([&] { return server->connections() == 0; }));
  int turns = 0;
  TurnWatcher watcher(loop, [] {}, [&] { ++turns; });
  Timer end(loop, [] {});
  end.start(milliseconds(600));
  while (end.active()) loop.run_once();
  EXPECT_LE(turns, 3);
}

// ---- disconnects

class Disconnects : public Connection {};

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

TEST_F(Disconnects, a_half_close_after_a_complete_request_is_none) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  client.half_close();
  turn_for(milliseconds(50));
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
  TurnWatcher watcher(loop, [] {}, [&] { ++turns; });
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

// ---- output

class Output : public Connection {};

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

TEST_F(Output, a_client_that_never_closes_is_closed_after_a_second) {
  start();
  Client client = connect();
  client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  client.read_to_end();
  const auto begin = Clock::now();
  EXPECT_EQ(server->connections(), 1u);
  ASSERT_TRUE(turn_until([&] { return server->connections() == 0; }, milliseconds(3000)));
  EXPECT_GE(Clock::now() - begin, milliseconds(900));
}

// ---- what is left of a request body

class Leftovers : public Connection {};

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

TEST_F(Leftovers, an_endless_chunked_rest_ends_the_connection) {
  start();
  Client client = connect();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  client.response();
  const std::string chunk = "8000\r\n" + std::string(0x8000, 'x') + "\r\n";
  for (int i = 0; i < 5; ++i) client.send_and_settle(chunk);
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

class Draining : public Connection {};

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
