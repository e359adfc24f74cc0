#include <sys/socket.h>

#include <thread>

#include "tests/common/server/holding.h"

namespace mgr::server {
namespace {

class Timeouts : public HoldingTest {
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

TEST_F(Timeouts, a_rest_of_a_body_may_take_longer_than_body_timeout_but_not_be_silent_so_long) {
  start(short_ones());
  Client client = connect();
  client.send(post("/", 100));
  EXPECT_EQ(client.response().status, 200);
  for (int i = 0; i < 9; ++i) {
    client.send(std::string(10, 'x'));
    turn_for(milliseconds(50));
  }
  client.send(std::string(10, 'x') + std::string(kGet));
  EXPECT_EQ(client.response().body, "hello");
  client.send(post("/", 100));
  EXPECT_EQ(client.response().status, 200);
  EXPECT_GE(time_to_end(client).count(), 140);
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
    const ssize_t n =
        ::send(client.fd(), body.data(), std::min<std::size_t>(body.size() - sent, 65536),
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

// ---- request_timeout

ServerOptions request_timeout(int ms) {
  ServerOptions options;
  options.request_timeout = milliseconds(ms);
  return options;
}

TEST_F(Timeouts, a_request_without_an_answer_is_504_and_its_connection_serves_on) {
  start(request_timeout(150));
  Client client = connect();
  Exchange& exchange = hold(client);
  const auto began = Clock::now();
  EXPECT_EQ(client.response().status, 504);
  EXPECT_GE(Clock::now() - began, milliseconds(100));
  EXPECT_TRUE(exchange.response_complete());
  EXPECT_EQ(exchange.send_head(200, {}), SendResult::wrong_order);
  EXPECT_EQ(counters.timeouts.load(), 1u);
  EXPECT_EQ(requests(5), 1u);
  client.send(kGet);
  EXPECT_EQ(client.response().status, 200);
  exchange.release();
}

TEST_F(Timeouts, an_answer_that_a_blocked_loop_has_made_late_is_told) {
  start(request_timeout(50));
  Client client = connect();
  Exchange& exchange = hold(client);
  std::this_thread::sleep_for(milliseconds(80));  // the loop is this thread's
  exchange.respond(200, "text/plain", "late");
  exchange.release();
  EXPECT_EQ(client.response().status, 200);
  EXPECT_EQ(counters.timeouts.load(), 1u);
  EXPECT_EQ(requests(2), 1u);
}

TEST_F(Timeouts, a_head_that_is_not_on_its_way_yet_is_replaced_by_504) {
  start(request_timeout(100));
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.send_head(200, {});
  EXPECT_EQ(client.response().status, 504);
  exchange.release();
}

TEST_F(Timeouts, a_response_that_has_begun_is_cut_when_the_requests_time_is_over) {
  start(request_timeout(100));
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.send_head(200, {});
  exchange.send_body("abc", true);
  client.read_to_end();
  EXPECT_TRUE(client.received.ends_with("3\r\nabc\r\n"));
  EXPECT_TRUE(exchange.disconnected());
  EXPECT_EQ(application.disconnects, 0);  // it was told of the timeout instead
  EXPECT_EQ(counters.timeouts.load(), 1u);
  exchange.release();
}

TEST_F(Timeouts, a_body_that_is_still_awaited_does_not_hinder_the_504) {
  start(request_timeout(100));
  Client client = connect();
  Exchange& exchange = hold(client, post("/later", 10, "hello"));
  EXPECT_EQ(client.response().status, 504);
  exchange.release();
}

TEST_F(Timeouts, a_request_that_is_answered_in_time_leaves_no_deadline_behind) {
  ServerOptions options = request_timeout(200);
  start(options);
  Client client = connect();
  for (int i = 0; i < 3; ++i) {
    Exchange& exchange = hold(client);
    turn_for(milliseconds(120));
    answer(exchange, 200, "in time");
    EXPECT_EQ(client.response().body, "in time");
  }
  turn_for(milliseconds(300));
  client.send(kGet);
  EXPECT_EQ(client.response().status, 200);
  EXPECT_EQ(counters.timeouts.load(), 0u);
}

TEST_F(Timeouts, an_application_that_was_released_from_its_response_has_all_the_time) {
  start(request_timeout(100));
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.send_head(200, {});
  exchange.send_body("done", false);
  EXPECT_EQ(client.response().body, "done");
  turn_for(milliseconds(250));
  EXPECT_EQ(counters.timeouts.load(), 0u);
  exchange.release();
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
  TurnWatcher watcher(
      loop, [] {}, [&] { ++turns; });
  Timer end(loop, [] {});
  end.start(milliseconds(600));
  while (end.active()) loop.run_once();
  EXPECT_LE(turns, 3);
}

}  // namespace
}  // namespace mgr::server
