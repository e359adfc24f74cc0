#include "tests/common/server/support.h"

namespace mgr::server {
namespace {

using SendResult = Exchange::SendResult;

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr std::string_view kOldGet = "GET / HTTP/1.0\r\n\r\n";
constexpr std::string_view kOldKeepAliveGet = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n";
constexpr std::string_view kHead = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";

// The application answers every request for "/" with `handler`, and releases.
class Responses : public ServerTest {
 protected:
  void serve(TestApplication::Handler handler, ServerOptions options = {}) {
    application.handlers["/"] = [this, handler = std::move(handler)](Exchange& exchange) {
      handler(exchange);
      application.held.pop_back();
      exchange.release();
    };
    start(std::move(options));
  }
};

TEST_F(Responses, one_body_without_a_length_gets_its_length) {
  serve([](Exchange& exchange) {
    EXPECT_EQ(exchange.send_head(200, {}), SendResult::sent);
    EXPECT_FALSE(exchange.head_flushed());
    EXPECT_EQ(exchange.send_body("abc", false), SendResult::sent);
    EXPECT_TRUE(exchange.response_complete());
  });
  Client client = connect();
  client.send(kGet);
  const auto response = client.response();
  EXPECT_EQ(response.field("content-length"), "3");
  EXPECT_FALSE(response.has("Transfer-Encoding"));
  EXPECT_EQ(response.body, "abc");
}

TEST_F(Responses, a_reason_of_the_application_takes_the_place_of_the_standard_one) {
  std::string reason;
  serve([&](Exchange& exchange) {
    EXPECT_EQ(exchange.send_head(200, {}, "no\r\nX: y"), SendResult::bad_head);
    EXPECT_EQ(exchange.send_head(200, {}, reason), SendResult::sent);
    exchange.send_body("", false);
  });
  for (const char* text : {"Very well", "", "OK"}) {
    reason = text;
    Client client = connect();
    client.send(kGet);
    const std::string expected = reason.empty() ? "OK" : reason;
    EXPECT_TRUE(client.response().head.starts_with("HTTP/1.1 200 " + expected + "\r\n"));
  }
}

TEST_F(Responses, a_streamed_body_is_chunked_and_the_connection_stays) {
  serve([](Exchange& exchange) {
    exchange.send_head(200, {});
    EXPECT_EQ(exchange.send_body("", true), SendResult::sent);
    EXPECT_TRUE(exchange.head_flushed());
    exchange.send_body("abc", true);
    exchange.send_body("", true);
    exchange.send_body("defghijklmnopqrstuvw", true);
    exchange.send_body("", false);
  });
  Client client = connect();
  for (int i = 0; i < 2; ++i) {
    client.send(kGet);
    client.read_until_contains("0\r\n\r\n");
    EXPECT_TRUE(
        client.received.ends_with("\r\n\r\n3\r\nabc\r\n14\r\ndefghijklmnopqrstuvw\r\n0\r\n\r\n"));
    EXPECT_EQ(client.response().field("transfer-encoding"), "chunked");
  }
}

TEST_F(Responses, the_last_chunk_and_the_end_go_out_together) {
  serve([](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.send_body("abc", true);
    exchange.send_body("def", false);
  });
  Client client = connect();
  client.send(kGet);
  EXPECT_EQ(client.response().body, "abcdef");
}

TEST_F(Responses, HTTP_1_0_gets_a_stream_that_ends_with_the_connection) {
  serve([](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.send_body("abc", true);
    exchange.send_body("def", false);
  });
  const std::string all = exchange_bytes(kOldKeepAliveGet);
  EXPECT_EQ(all.find("Transfer-Encoding"), std::string::npos);
  EXPECT_NE(all.find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(all.ends_with("\r\n\r\nabcdef"));
}

TEST_F(Responses, HTTP_1_0_keeps_the_connection_only_when_it_asks) {
  start();
  Client client = connect();
  for (int i = 0; i < 2; ++i) {
    client.send(kOldKeepAliveGet);
    const auto response = client.response();
    EXPECT_TRUE(response.has("Connection: keep-alive\r\n"));
    EXPECT_EQ(response.body, "hello");
  }
  const std::string all = exchange_bytes(kOldGet);
  EXPECT_TRUE(all.starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_NE(all.find("Connection: close\r\n"), std::string::npos);
}

TEST_F(Responses, Connection_close_of_the_client_is_honoured) {
  start();
  const std::string all =
      exchange_bytes("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n");
  EXPECT_NE(all.find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(all.ends_with("hello"));
}

TEST_F(Responses, Connection_close_of_the_application_is_honoured_and_its_framing_dropped) {
  serve([](Exchange& exchange) {
    const std::vector<HeaderField> fields = {{"connection", "close"},
                                             {"keep-alive", "timeout=5"},
                                             {"transfer-encoding", "gzip, chunked"},
                                             {"x-kept", "yes"}};
    exchange.send_head(200, fields);
    exchange.send_body("abc", false);
  });
  const std::string all = exchange_bytes(kGet);
  EXPECT_EQ(all.find("chunked"), std::string::npos);
  EXPECT_EQ(all.find("timeout"), std::string::npos);
  EXPECT_NE(all.find("x-kept: yes\r\n"), std::string::npos);
  EXPECT_NE(all.find("Connection: close\r\n"), std::string::npos);
}

TEST_F(Responses, HEAD_never_gets_a_body_but_its_length) {
  std::vector<HeaderField> fields;
  serve([&](Exchange& exchange) {
    exchange.send_head(200, fields);
    EXPECT_EQ(exchange.send_body("abcdef", false), SendResult::sent);
  });
  fields = {{"content-length", "6"}};
  Client client = connect();
  client.send(kHead);
  EXPECT_EQ(client.response(true).field("content-length"), "6");
  fields = {};
  client.send(kHead);
  EXPECT_EQ(client.response(true).field("content-length"), "6");
  client.send(kHead);
  client.read_until_contains("\r\n\r\n");
  EXPECT_TRUE(client.received.ends_with("\r\n\r\n"));
}

TEST_F(Responses, a_streamed_answer_to_HEAD_is_neither_chunked_nor_sent) {
  serve([](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.send_body("abc", true);
    exchange.send_body("def", false);
  });
  Client client = connect();
  client.send(std::string(kHead) + std::string(kGet));
  EXPECT_FALSE(client.response(true).has("Transfer-Encoding"));
  EXPECT_EQ(client.response().body, "abcdef");
}

TEST_F(Responses, statuses_without_a_body_have_none) {
  int status = 0;
  serve([&](Exchange& exchange) {
    const std::vector<HeaderField> fields = {{"content-length", "3"}};
    exchange.send_head(status, fields);
    EXPECT_EQ(exchange.send_body("abc", false), SendResult::sent);
  });
  Client client = connect();
  status = 204;
  client.send(kGet);
  auto response = client.response();
  EXPECT_EQ(response.field("content-length"), "");
  status = 304;
  client.send(kGet);
  response = client.response();
  EXPECT_EQ(response.status, 304);
  EXPECT_EQ(response.field("content-length"), "3");
  EXPECT_EQ(client.received, "");
}

TEST_F(Responses, a_1xx_as_the_answer_ends_the_connection) {
  serve([](Exchange& exchange) {
    exchange.send_head(101, {});
    exchange.send_body("abc", false);
  });
  const std::string all = exchange_bytes(kGet);
  EXPECT_TRUE(all.starts_with("HTTP/1.1 101 "));
  EXPECT_NE(all.find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(all.ends_with("\r\n\r\n"));
}

TEST_F(Responses, longer_than_its_length_is_cut_and_the_connection_ends) {
  serve([](Exchange& exchange) {
    const std::vector<HeaderField> fields = {{"Content-Length", "5"}};
    exchange.send_head(200, fields);
    EXPECT_EQ(exchange.send_body("abc", true), SendResult::sent);
    EXPECT_EQ(exchange.send_body("defg", true), SendResult::too_long);
    EXPECT_EQ(exchange.send_body("h", false), SendResult::wrong_order);
  });
  const std::string all = exchange_bytes(kGet);
  EXPECT_TRUE(all.ends_with("\r\n\r\nabcde"));
}

TEST_F(Responses, longer_than_its_length_at_once_is_cut_and_says_so) {
  serve([](Exchange& exchange) {
    const std::vector<HeaderField> fields = {{"Content-Length", "2"}};
    exchange.send_head(200, fields);
    EXPECT_EQ(exchange.send_body("abc", false), SendResult::too_long);
  });
  EXPECT_TRUE(exchange_bytes(kGet).ends_with("\r\n\r\nab"));
}

TEST_F(Responses, shorter_than_its_length_ends_the_connection_so_that_the_client_notices) {
  serve([](Exchange& exchange) {
    const std::vector<HeaderField> fields = {{"Content-Length", "5"}};
    exchange.send_head(200, fields);
    EXPECT_EQ(exchange.send_body("abc", false), SendResult::too_short);
    EXPECT_FALSE(exchange.response_complete());
  });
  const std::string all = exchange_bytes(kGet);
  EXPECT_NE(all.find("Content-Length: 5\r\n"), std::string::npos);
  EXPECT_TRUE(all.ends_with("\r\n\r\nabc"));
}

TEST_F(Responses, an_aborted_stream_has_no_last_chunk) {
  serve([](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.send_body("abc", true);
    exchange.abort();
    EXPECT_TRUE(exchange.disconnected());
    EXPECT_EQ(exchange.send_body("d", true), SendResult::closed);
  });
  EXPECT_TRUE(exchange_bytes(kGet).ends_with("3\r\nabc\r\n"));
  EXPECT_EQ(application.disconnects, 0) << "the application knows what it did";
}

TEST_F(Responses, an_aborted_stream_of_HTTP_1_0_is_reset) {
  serve([](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.send_body("abc", true);
    exchange.abort();
  });
  Client client = connect();
  client.send(kOldGet);
  client.read_to_end();
  EXPECT_TRUE(client.was_reset);
}

TEST_F(Responses, released_without_a_head_are_500_and_close) {
  serve([](Exchange&) {});
  const std::string all = exchange_bytes(kGet);
  EXPECT_TRUE(all.starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
  EXPECT_NE(all.find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(all.ends_with("\r\n\r\nInternal Server Error\n"));
  EXPECT_EQ(requests(5), 1u);
}

TEST_F(Responses, released_with_a_head_that_is_not_flushed_are_500) {
  serve([](Exchange& exchange) { exchange.send_head(200, {}); });
  EXPECT_TRUE(exchange_bytes(kGet).starts_with("HTTP/1.1 500 "));
}

TEST_F(Responses, released_in_the_middle_are_cut) {
  serve([](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.send_body("abc", true);
  });
  EXPECT_TRUE(exchange_bytes(kGet).ends_with("3\r\nabc\r\n"));
}

TEST_F(Responses, respond_replaces_a_head_that_is_not_flushed) {
  serve([](Exchange& exchange) {
    const std::vector<HeaderField> fields = {{"x-first", "1"}};
    exchange.send_head(200, fields);
    exchange.respond(503, "text/plain", "later");
  });
  Client client = connect();
  client.send(kGet);
  const auto response = client.response();
  EXPECT_EQ(response.status, 503);
  EXPECT_FALSE(response.has("x-first"));
  EXPECT_EQ(response.body, "later");
}

TEST_F(Responses, heads_that_HTTP_forbids_are_refused_and_can_be_sent_anew) {
  using namespace std::string_literals;
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"x", "a\r\nSet-Cookie: b"},
      {"x", "a\nb"},
      {"x", "a\rb"},
      {"x", "a\0b"s},
      {"x", "\x01"},
      {"", "a"},
      {"x y", "a"},
      {"x:", "a"},
      {"x\r\ny", "a"},
      {"\xc3\xa4", "a"},
      {"content-length", "x"},
      {"content-length", "-1"},
      {"content-length", "1, 1"},
  };
  serve([&](Exchange& exchange) {
    for (const auto& [name, value] : bad) {
      const std::vector<HeaderField> fields = {{name, value}};
      EXPECT_EQ(exchange.send_head(200, fields), SendResult::bad_head) << name << ": " << value;
    }
    const std::vector<HeaderField> twice = {{"content-length", "1"}, {"Content-Length", "1"}};
    EXPECT_EQ(exchange.send_head(200, twice), SendResult::bad_head);
    EXPECT_EQ(exchange.send_head(99, {}), SendResult::bad_head);
    EXPECT_EQ(exchange.send_head(1000, {}), SendResult::bad_head);
    EXPECT_EQ(exchange.send_head(0, {}), SendResult::bad_head);
    EXPECT_FALSE(exchange.head_sent());
    EXPECT_EQ(exchange.send_head(299, {}), SendResult::sent);
    exchange.send_body("fine", false);
  });
  Client client = connect();
  client.send(kGet);
  const auto response = client.response();
  EXPECT_TRUE(response.head.starts_with("HTTP/1.1 299 \r\n"));
  EXPECT_EQ(response.body, "fine");
}

TEST_F(Responses, out_of_order_calls_are_refused) {
  serve([](Exchange& exchange) {
    EXPECT_EQ(exchange.send_body("x", true), SendResult::wrong_order);
    EXPECT_EQ(exchange.send_head(200, {}), SendResult::sent);
    EXPECT_EQ(exchange.send_head(200, {}), SendResult::wrong_order);
    EXPECT_EQ(exchange.send_body("x", false), SendResult::sent);
    EXPECT_EQ(exchange.send_body("y", false), SendResult::wrong_order);
    EXPECT_EQ(exchange.send_head(200, {}), SendResult::wrong_order);
  });
  Client client = connect();
  client.send(kGet);
  EXPECT_EQ(client.response().body, "x");
}

TEST_F(Responses, configured_server_and_date_take_the_place_of_the_built_in_ones) {
  ServerOptions options;
  options.headers = {{"server", "shop"}, {"DATE", "today"}};
  start(options);
  Client client = connect();
  client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(client.response().head,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDATE: today\r\nserver: shop\r\n"
            "Content-Length: 5\r\n\r\n");
}

TEST_F(Responses, own_fields_give_way_to_the_application_and_can_be_switched_off) {
  ServerOptions options;
  options.headers = {{"X-Frame-Options", "DENY"}, {"X-Own", "server"}};
  serve(
      [](Exchange& exchange) {
        const std::vector<HeaderField> fields = {
            {"server", "app"}, {"date", "now"}, {"x-own", "app"}};
        exchange.send_head(200, fields);
        exchange.send_body("", false);
      },
      options);
  Client client = connect();
  client.send(kGet);
  auto response = client.response();
  EXPECT_TRUE(response.has("X-Frame-Options: DENY\r\n"));
  EXPECT_FALSE(response.has("X-Own: server"));
  EXPECT_FALSE(response.has("Server: mgr"));
  EXPECT_EQ(response.field("date"), "now");
  EXPECT_EQ(response.field("content-length"), "0");

  ServerOptions quiet;
  quiet.server_header = quiet.date_header = false;
  server.reset();
  start(quiet);
  Client other = connect();
  other.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
  response = other.response();
  EXPECT_EQ(response.head,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n");
}

TEST_F(Responses, bytes_are_counted) {
  start();
  Client client = connect();
  client.send(kGet);
  client.read_until_contains("hello");
  EXPECT_EQ(counters.bytes_in.load(), kGet.size());
  EXPECT_EQ(counters.bytes_out.load(), client.received.size());
}

TEST_F(Responses, the_request_is_described) {
  application.handlers["/a%20b"] = [](Exchange& exchange) {
    const Request& request = exchange.request();
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.target, "http://h:80/a%20b?c=d?e");
    EXPECT_EQ(request.raw_path, "/a%20b");
    EXPECT_EQ(request.query, "c=d?e");
    EXPECT_EQ(request.scheme, "http");
    EXPECT_EQ(request.version, HttpVersion::http11);
    EXPECT_TRUE(request.has_body);
    ASSERT_EQ(request.headers.size(), 4u);
    EXPECT_EQ(request.headers[0].name, "host");
    EXPECT_EQ(request.headers[2].name, "x-a_b");
    EXPECT_EQ(request.headers[2].value, "C \t d");
    EXPECT_EQ(request.headers[3].value, "");
    EXPECT_EQ(request.client->host, "127.0.0.1");
    EXPECT_GT(request.client->port, 0);
    EXPECT_EQ(request.server->host, "127.0.0.1");
    EXPECT_EQ(exchange.peer_uid(), -1);
    answer(exchange, 200, "");
  };
  start();
  EXPECT_EQ(status_of("POST http://h:80/a%20b?c=d?e HTTP/1.1\r\nHost: h:80\r\n"
                      "Content-Length: 1\r\nX-A_b:  C \t d \r\nX-Empty:\r\n\r\nx"),
            200);
}

TEST_F(Responses, a_Unix_peer_is_known_by_its_credentials) {
  application.handlers["/"] = [this](Exchange& exchange) {
    EXPECT_EQ(exchange.peer_uid(), static_cast<std::int64_t>(::getuid()));
    EXPECT_EQ(exchange.peer_gid(), static_cast<std::int64_t>(::getgid()));
    EXPECT_EQ(exchange.peer_pid(), ::getpid());
    EXPECT_EQ(exchange.request().client, nullptr);
    EXPECT_TRUE(exchange.request().server->is_unix);
    EXPECT_EQ(exchange.request().server->host, unix_path);
    answer(exchange, 200, "");
  };
  start_unix();
  EXPECT_EQ(status_of(kGet), 200);
}

class Expectations : public ServerTest {};

constexpr std::string_view kExpect =
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

TEST_F(Expectations, get_a_100_when_the_application_wants_the_body) {
  application.handlers["/"] = [](Exchange&) {};
  application.body_handler = [](Exchange& exchange) { answer(exchange, 200, exchange.body()); };
  start();
  Client client = connect();
  client.send(kExpect);
  ASSERT_TRUE(turn_until([&] { return !application.held.empty(); }));
  turn_for(milliseconds(20));
  client.read_until([] { return false; }, milliseconds(20));
  EXPECT_EQ(client.received, "") << "not before it is wanted";
  application.held[0]->want_body();
  application.held[0]->want_body();
  client.read_until_contains("HTTP/1.1 100 Continue\r\n\r\n");
  client.received.clear();
  client.send("hello");
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(Expectations, get_no_100_when_the_answer_comes_first_and_the_connection_ends) {
  start();
  const std::string all = exchange_bytes(kExpect);
  EXPECT_TRUE(all.starts_with("HTTP/1.1 200 "));
  EXPECT_NE(all.find("Connection: close\r\n"), std::string::npos);
}

TEST_F(Expectations, get_no_100_when_the_answer_has_begun_and_are_told_that_the_connection_ends) {
  application.handlers["/"] = [](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.send_body("a", true);
    exchange.want_body();
    exchange.send_body("b", false);
    exchange.release();
  };
  start();
  const std::string all = exchange_bytes(kExpect);
  EXPECT_TRUE(all.starts_with("HTTP/1.1 200 "));
  EXPECT_NE(all.find("Connection: close\r\n"), std::string::npos);
  EXPECT_EQ(all.find(" 100 "), std::string::npos);
}

TEST_F(Expectations, get_a_100_after_a_head_of_which_nothing_was_sent_yet) {
  application.handlers["/"] = [](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.want_body();
  };
  application.body_handler = [](Exchange& exchange) {
    exchange.send_body(exchange.body(), false);
    exchange.release();
  };
  start();
  Client client = connect();
  client.send(kExpect);
  client.read_until_contains("HTTP/1.1 100 Continue\r\n\r\n");
  client.received.clear();
  client.send("hello");
  const auto response = client.response();
  EXPECT_EQ(response.body, "hello");
  EXPECT_FALSE(response.has("Connection"));
}

TEST_F(Expectations, get_no_100_when_the_body_is_there_already) {
  application.handlers["/"] = [](Exchange& exchange) { exchange.want_body(); };
  application.body_handler = [](Exchange& exchange) { answer(exchange, 200, exchange.body()); };
  start();
  Client client = connect();
  client.send(std::string(kExpect) + "hello");
  client.read_until_contains("hello");
  EXPECT_TRUE(client.received.starts_with("HTTP/1.1 200 OK\r\n"));
}

TEST_F(Expectations, of_HTTP_1_0_are_ignored) {
  application.handlers["/"] = [](Exchange& exchange) { exchange.want_body(); };
  application.body_handler = [](Exchange& exchange) { answer(exchange, 200, exchange.body()); };
  start();
  Client client = connect();
  client.send("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
  ASSERT_TRUE(turn_until([&] { return !application.held.empty(); }));
  client.send("hello");
  EXPECT_TRUE(client.read_to_end().starts_with("HTTP/1.1 200"));
}

}  // namespace
}  // namespace mgr::server
