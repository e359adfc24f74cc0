// Informational responses before a response, and trailer fields after it.

#include "tests/common/server/support.h"

namespace mgr::server {
namespace {

using SendResult = Exchange::SendResult;

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
constexpr std::string_view kOldGet = "GET / HTTP/1.0\r\n\r\n";
constexpr std::string_view kGetWithTrailers =
    "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=0.5, Trailers\r\nConnection: TE, close\r\n\r\n";
constexpr HeaderField kLink{"Link", "</style.css>; rel=preload"};
constexpr HeaderField kDigest{"digest", "abc"};

class Around : public ServerTest {
 protected:
  std::string bytes(std::string_view request, TestApplication::Handler handler) {
    application.handlers["/"] = [this, handler = std::move(handler)](Exchange& exchange) {
      handler(exchange);
      application.held.pop_back();
      exchange.release();
    };
    start();
    return exchange_bytes(request);
  }
};

void finish(Exchange& exchange) {
  exchange.send_head(200, {});
  EXPECT_EQ(exchange.send_body("abc", false), SendResult::sent);
}

TEST_F(Around, early_hints_go_out_at_once_and_as_often_as_they_come) {
  const std::string all = bytes(kGet, [](Exchange& exchange) {
    EXPECT_EQ(exchange.send_interim(103, {&kLink, 1}), SendResult::sent);
    EXPECT_EQ(exchange.send_head(200, {}), SendResult::sent);
    EXPECT_EQ(exchange.send_interim(103, {&kLink, 1}), SendResult::sent);
    EXPECT_FALSE(exchange.head_flushed());
    exchange.send_body("abc", false);
    EXPECT_EQ(exchange.send_interim(103, {&kLink, 1}), SendResult::wrong_order);
  });
  const std::string hint = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
  EXPECT_TRUE(all.starts_with(hint + hint + "HTTP/1.1 200 OK\r\n")) << all;
  EXPECT_TRUE(all.ends_with("\r\n\r\nabc"));
}

TEST_F(Around, early_hints_are_dropped_once_the_head_is_on_its_way) {
  const std::string all = bytes(kGet, [](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.send_body("a", true);
    EXPECT_EQ(exchange.send_interim(103, {&kLink, 1}), SendResult::sent);
    exchange.send_body("b", false);
  });
  EXPECT_EQ(all.find("103"), std::string::npos);
  EXPECT_TRUE(all.ends_with("\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"));
}

TEST_F(Around, a_client_of_HTTP_1_0_gets_no_early_hints) {
  const std::string all = bytes(kOldGet, [](Exchange& exchange) {
    EXPECT_EQ(exchange.send_interim(103, {&kLink, 1}), SendResult::sent);
    finish(exchange);
  });
  EXPECT_TRUE(all.starts_with("HTTP/1.1 200 OK\r\n"));
}

TEST_F(Around, what_is_no_informational_response_is_refused) {
  const std::string all = bytes(kGet, [](Exchange& exchange) {
    for (const int status : {0, 100, 101, 200}) {
      EXPECT_EQ(exchange.send_interim(status, {}), SendResult::bad_head) << status;
    }
    const HeaderField split{"Link", "a\r\nX: b"};
    EXPECT_EQ(exchange.send_interim(103, {&split, 1}), SendResult::bad_head);
    finish(exchange);
  });
  EXPECT_TRUE(all.starts_with("HTTP/1.1 200 OK\r\n"));
}

TEST_F(Around, trailers_follow_a_chunked_body_where_the_client_takes_them) {
  const std::string all = bytes(kGetWithTrailers, [](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.send_body("abc", true);
    EXPECT_EQ(exchange.send_trailers({&kDigest, 1}, true), SendResult::sent);
    const HeaderField more{"x-more", "1"};
    EXPECT_FALSE(exchange.response_complete());
    EXPECT_EQ(exchange.send_trailers({&more, 1}, false), SendResult::sent);
    EXPECT_TRUE(exchange.response_complete());
  });
  EXPECT_TRUE(all.ends_with("\r\n\r\n3\r\nabc\r\n0\r\ndigest: abc\r\nx-more: 1\r\n\r\n")) << all;
}

TEST_F(Around, trailers_are_dropped_where_the_client_does_not_take_them) {
  const std::string all = bytes(kGet, [](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.send_body("abc", true);
    EXPECT_EQ(exchange.send_trailers({&kDigest, 1}, false), SendResult::sent);
  });
  EXPECT_TRUE(all.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n")) << all;
}

TEST_F(Around, trailers_are_dropped_where_nothing_is_chunked) {
  const std::string all = bytes(kGetWithTrailers, [](Exchange& exchange) {
    const HeaderField length{"content-length", "3"};
    exchange.send_head(200, {&length, 1});
    exchange.send_body("abc", true);
    EXPECT_EQ(exchange.send_trailers({&kDigest, 1}, false), SendResult::sent);
  });
  EXPECT_TRUE(all.ends_with("\r\n\r\nabc")) << all;
}

TEST_F(Around, trailers_cannot_frame_a_message_or_split_it) {
  const std::string all = bytes(kGetWithTrailers, [](Exchange& exchange) {
    EXPECT_EQ(exchange.send_trailers({&kDigest, 1}, false), SendResult::wrong_order);
    exchange.send_head(200, {});
    EXPECT_EQ(exchange.send_trailers({&kDigest, 1}, false), SendResult::wrong_order);
    exchange.send_body("abc", true);
    const HeaderField split{"x", "1\r\ny: 2"};
    EXPECT_EQ(exchange.send_trailers({&split, 1}, false), SendResult::bad_head);
    const HeaderField framing[] = {{"Content-Length", "7"}, {"transfer-encoding", "gzip"}};
    EXPECT_EQ(exchange.send_trailers(framing, false), SendResult::sent);
  });
  EXPECT_TRUE(all.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n")) << all;
}

}  // namespace
}  // namespace mgr::server
