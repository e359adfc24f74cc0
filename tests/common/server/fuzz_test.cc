#include <algorithm>
#include <random>

#include "tests/common/server/support.h"

namespace mgr::server {
namespace {

// Streams of requests as clients send them; each is mutated in many ways.
const std::vector<std::string>& streams() {
  static const std::vector<std::string> all = {
      "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b?c HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
      "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
      "GET /b HTTP/1.1\r\nHost: a\r\n\r\n",
      "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX: y\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
      "\r\nHEAD /a HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\n\r\n"
      "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
      "PUT http://a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX-Forwarded-For: 1.2.3.4, "
      "5.6.7.8\r\n"
      "Forwarded: for=1.2.3.4\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: "
      "Upgrade\r\n\r\n",
  };
  return all;
}

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_);
  }

  std::string mutate(std::string text) {
    const std::size_t times = 1 + below(3);
    for (std::size_t i = 0; i < times && !text.empty(); ++i) mutate_once(text);
    return text;
  }

  std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> pieces;
    while (!text.empty()) {
      const std::size_t size = 1 + below(std::min<std::size_t>(text.size(), 1 + below(40)));
      pieces.emplace_back(text.substr(0, size));
      text.remove_prefix(size);
    }
    return pieces;
  }

 private:
  void mutate_once(std::string& text) {
    using namespace std::string_literals;
    static const std::vector<std::string> kInserts = {"\r",
                                                      "\n",
                                                      "\r\n",
                                                      " ",
                                                      "\t",
                                                      ":",
                                                      ";",
                                                      ",",
                                                      "\0"s,
                                                      "\x7f",
                                                      "\xff",
                                                      "0",
                                                      "9",
                                                      "a",
                                                      "/",
                                                      "-",
                                                      "Content-Length: 3\r\n",
                                                      "Transfer-Encoding: chunked\r\n",
                                                      "Host: b\r\n",
                                                      "chunked",
                                                      "\r\n\r\n",
                                                      "Connection: close\r\n",
                                                      " HTTP/1.1",
                                                      "Expect: x\r\n",
                                                      "0\r\n\r\n"};
    const std::size_t at = below(text.size());
    const std::size_t size = std::min(1 + below(8), text.size() - at);
    switch (below(6)) {
      case 0:
        text[at] = static_cast<char>(below(256));
        break;
      case 1:
      case 2:
        text.insert(at, kInserts[below(kInserts.size())]);
        break;
      case 3:
        text.erase(at, size);
        break;
      case 4:
        text.insert(below(text.size()), text.substr(at, size));
        break;
      default:
        text[at] = kInserts[below(16)][0];
        break;
    }
  }

  std::mt19937 random_;
};

// Answers with target and body when the body is complete; marks answers to HEAD, which have none.
class Echo final : public Application, public ExchangeObserver {
 public:
  void on_request(Exchange& exchange) noexcept override {
    exchange.set_observer(this);
    on_body(exchange);
  }
  void on_body(Exchange& exchange) noexcept override {
    if (!exchange.body_complete()) return;
    const std::string body =
        std::string(exchange.request().target) + " " + std::string(exchange.body());
    const HeaderField head{"x-head", exchange.request().method == "HEAD" ? "yes" : "no"};
    exchange.send_head(200, {&head, 1});
    exchange.send_body(body, false);
    exchange.release();
  }
  void on_drain(Exchange&) noexcept override {}
  void on_disconnect(Exchange& exchange) noexcept override { exchange.release(); }
};

class Fuzz : public ServerTest {
 protected:
  Fuzz() {
    ServerOptions options;
    options.date_header = false;
    options.limit_headers = 8;
    options.limit_header_size = 200;
    options.limit_request_line = 60;
    options.limit_body = 40;
    options.forwarded = ForwardedFamily::x_forwarded;
    options.trusted_proxies = {"*"};
    start_unix(options, &echo);
  }

  // Everything that the server answers to these pieces and the end of input.
  std::string answers(const std::vector<std::string>& pieces) {
    Client client = connect();
    for (const std::string& piece : pieces) client.send_and_settle(piece);
    client.half_close();
    return client.read_to_end();
  }

  // Each answer is whole, and one that ends the connection is the last.
  void expect_well_formed(const std::string& answers) {
    Client parser(loop, UniqueFd());
    parser.received = answers;
    parser.eof = true;
    while (!parser.received.empty()) {
      const std::string head = parser.received.substr(0, parser.received.find("\r\n\r\n") + 4);
      // A refusal of HEAD has no body either.
      const bool refused_head = !head.starts_with("HTTP/1.1 200") && head == parser.received;
      const bool to_head = head.find("x-head: yes") != std::string::npos || refused_head;
      const auto response = parser.response(to_head);
      ASSERT_NE(response.status, 0);
      const bool last = response.has("Connection: close\r\n");
      EXPECT_TRUE(last || response.status == 200);
      ASSERT_TRUE(!last || parser.received.empty()) << "after the last answer";
    }
  }

  Echo echo;
};

TEST_F(Fuzz, mutated_requests_are_answered_alike_however_they_are_split) {
  Mutator mutator(20240607);
  for (int round = 0; round < 3000; ++round) {
    const std::string& stream = streams()[mutator.below(streams().size())];
    const std::string mutated = mutator.mutate(stream);
    SCOPED_TRACE(testing::PrintToString(mutated));
    const std::string whole = answers({mutated});
    ASSERT_NO_FATAL_FAILURE(expect_well_formed(whole));
    ASSERT_EQ(answers(mutator.split(mutated)), whole);
    ASSERT_EQ(server->in_flight(), 0u);
  }
  // Enough of both, or the mutations would prove nothing.
  EXPECT_GT(requests(2), 1000u);
  EXPECT_GT(requests(4) + requests(5), 1000u);
}

TEST_F(Fuzz, random_bytes_do_no_harm) {
  Mutator mutator(7);
  for (int round = 0; round < 500; ++round) {
    std::string bytes;
    for (std::size_t i = 0; i < 200; ++i) bytes += static_cast<char>(mutator.below(256));
    ASSERT_NO_FATAL_FAILURE(expect_well_formed(answers({bytes})));
  }
  EXPECT_EQ(requests(2), 0u);
}

}  // namespace
}  // namespace mgr::server
