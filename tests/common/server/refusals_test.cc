#include "tests/common/server/support.h"

namespace mgr::server {
namespace {

struct Case {
  const char* name;
  std::string request;
  int status;
};

std::string get(std::string_view fields) {
  return "GET / HTTP/1.1\r\nHost: a\r\n" + std::string(fields) + "\r\n";
}
std::string post(std::string_view fields, std::string_view body = "") {
  return "POST / HTTP/1.1\r\nHost: a\r\n" + std::string(fields) + "\r\n" + std::string(body);
}
std::string chunked(std::string_view body) {
  return post("Transfer-Encoding: chunked\r\n", body);
}
std::string line(std::string_view request_line) {
  return std::string(request_line) + "\r\nHost: a\r\n\r\n";
}

const std::vector<Case>& cases() {
  using namespace std::string_literals;
  static const std::vector<Case> all = {
      // Request lines
      {"a plain request", line("GET / HTTP/1.1"), 200},
      {"two spaces before the target", line("GET  / HTTP/1.1"), 400},
      {"two spaces before the version", line("GET /  HTTP/1.1"), 400},
      {"a tab instead of a space", line("GET\t/ HTTP/1.1"), 400},
      {"a space after the version", line("GET / HTTP/1.1 "), 400},
      {"a space before the method", line(" GET / HTTP/1.1"), 400},
      {"no version", line("GET /"), 400},
      {"nothing but a method", line("GET"), 400},
      {"no target", line("GET HTTP/1.1"), 400},
      {"a line feed alone after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
      {"a line feed alone after a whole request line", "GET / HTTP/1.1\r\n\nHost: a\r\n\r\n", 400},
      {"line feeds alone everywhere", "GET / HTTP/1.1\nHost: a\n\n", 400},
      {"a carriage return alone", "GET / HTTP/1.1\rHost: a\r\n\r\n", 400},
      {"garbage", "\x16\x03\x01\x02\x00\x01"s, 400},
      {"an unknown method", line("BREW / HTTP/1.1"), 501},
      {"a lower-case method", line("get / HTTP/1.1"), 501},
      {"a method with a parenthesis", line("G(T / HTTP/1.1"), 400},
      {"a method of RTSP", line("DESCRIBE / HTTP/1.1"), 501},
      {"CONNECT", line("CONNECT a:80 HTTP/1.1"), 400},
      {"CONNECT with a path", line("CONNECT / HTTP/1.1"), 400},
      {"TRACE", line("TRACE / HTTP/1.1"), 200},
      {"PROPFIND", line("PROPFIND / HTTP/1.1"), 200},
      {"OPTIONS of the server", line("OPTIONS * HTTP/1.1"), 200},
      {"GET of the server", line("GET * HTTP/1.1"), 400},
      {"a fragment", line("GET /a#b HTTP/1.1"), 400},
      {"a target with bytes above ASCII", line("GET /\xc3\xa4 HTTP/1.1"), 400},
      {"a target with a control character", line("GET /\x01 HTTP/1.1"), 400},
      {"a target without a slash", line("GET a HTTP/1.1"), 400},
      {"an authority as the target", line("GET a:80 HTTP/1.1"), 400},
      {"an absolute target", line("GET http://a/b?c HTTP/1.1"), 200},
      {"an absolute target without a path", line("GET HTTPS://a HTTP/1.1"), 200},
      {"an absolute target of another host", line("GET http://b/ HTTP/1.1"), 400},
      {"an absolute target in another case", line("GET http://A/ HTTP/1.1"), 200},
      {"an absolute target with the port of http", line("GET http://a:80/ HTTP/1.1"), 200},
      {"an absolute target with the port of https", line("GET https://a:443/ HTTP/1.1"), 200},
      {"an absolute target with the port of another scheme", line("GET https://a:80/ HTTP/1.1"),
       400},
      {"a Host with the port that the target leaves out",
       "GET http://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n", 200},
      {"an absolute target with another port", line("GET http://a:81/ HTTP/1.1"), 400},
      {"an absolute target with an empty Host", "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", 400},
      {"an absolute target with a user", line("GET http://u@a/ HTTP/1.1"), 400},
      {"an absolute target without a host", line("GET http:///b HTTP/1.1"), 400},
      {"another scheme", line("GET ftp://a/ HTTP/1.1"), 400},
      // Versions
      {"HTTP/2.0", line("GET / HTTP/2.0"), 505},
      {"HTTP/1.2", line("GET / HTTP/1.2"), 505},
      {"HTTP/0.9", line("GET / HTTP/0.9"), 505},
      {"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"http/1.1 in lower case", line("GET / http/1.1"), 400},
      {"HTTP/11", line("GET / HTTP/11"), 400},
      {"RTSP/1.0", line("GET / RTSP/1.0"), 400},
      {"ICE/1.0", line("SOURCE / ICE/1.0"), 400},
      // Host
      {"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
      {"no Host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 200},
      {"two Hosts", get("Host: a\r\n"), 400},
      {"two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400},
      {"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 200},
      {"a Host with a port", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200},
      {"a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
      {"a Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
      {"a Host in brackets without an end", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
      {"a Host in brackets that is no address", "GET / HTTP/1.1\r\nHost: [zz]\r\n\r\n", 400},
      {"a Host of IPv4 in brackets", "GET / HTTP/1.1\r\nHost: [1.2.3.4]\r\n\r\n", 400},
      {"a Host that goes on after brackets", "GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", 400},
      {"a Host of IPv6 without brackets", "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", 400},
      {"a Host with a name as its port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400},
      {"a Host with two ports", "GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", 400},
      {"a Host with the last port", "GET / HTTP/1.1\r\nHost: a:65535\r\n\r\n", 200},
      {"a Host with a port too many", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400},
      {"a Host with an empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n", 200},
      {"a Host that is a port alone", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400},
      {"a Host with a percent sign", "GET / HTTP/1.1\r\nHost: a%\r\n\r\n", 400},
      {"a Host with half an escape", "GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", 400},
      {"a Host with an escape", "GET / HTTP/1.1\r\nHost: a%c3%A4b\r\n\r\n", 200},
      {"a Host with an underscore", "GET / HTTP/1.1\r\nHost: a_b.c-d:80\r\n\r\n", 200},
      {"a list of Hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
      {"a Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
      // Fields
      {"a space before the colon", get("X : y\r\n"), 400},
      {"a tab before the colon", get("X\t: y\r\n"), 400},
      {"a folded field", get("X: y\r\n z\r\n"), 400},
      {"a folded field, with a tab", get("X: y\r\n\tz\r\n"), 400},
      {"a folded first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"a fold after an empty value", get("X:\r\n y\r\n"), 400},
      {"an empty name", get(": y\r\n"), 400},
      {"an empty name first", "GET / HTTP/1.1\r\n: y\r\nHost: a\r\n\r\n", 400},
      {"no colon", get("Xy\r\n"), 400},
      {"a name with a space", get("X y: z\r\n"), 400},
      {"a name with a parenthesis", get("X(: z\r\n"), 400},
      {"a name above ASCII", get("X\xc3\xa4: z\r\n"), 400},
      {"a name with NUL", get("X\0: z\r\n"s), 400},
      {"a value with NUL", get("X: a\0b\r\n"s), 400},
      {"a value with a control character",
       get("X: a\x01"
           "b\r\n"),
       400},
      {"a value with DEL",
       get("X: a\x7f"
           "b\r\n"),
       400},
      {"a value with a carriage return", get("X: a\rb\r\n"), 400},
      {"a value that ends with a carriage return", get("X: a\r\r\n"), 400},
      {"a carriage return that ends an empty field", get("X:\rY: z\r\n"), 400},
      {"a field that ends with a line feed", get("X: y\nZ: z\r\n"), 400},
      {"a head that ends with a line feed", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
      {"a value with a tab and bytes above ASCII", get("X: \ta\tb\xc3\xa4 \t\r\n"), 200},
      {"an empty value", get("X:\r\nY: \r\n"), 200},
      {"no blank after the colon", get("X:y\r\n"), 200},
      {"an underscore in a name", get("X_y: z\r\n"), 200},
      // Lengths
      {"Content-Length with a sign", post("Content-Length: +5\r\n", "hello"), 400},
      {"a negative Content-Length", post("Content-Length: -5\r\n"), 400},
      {"Content-Length in hexadecimal", post("Content-Length: 0x5\r\n", "hello"), 400},
      {"an empty Content-Length", post("Content-Length:\r\n"), 400},
      {"a list of Content-Lengths", post("Content-Length: 5, 5\r\n", "hello"), 400},
      {"a Content-Length with a space", post("Content-Length: 1 1\r\n", "hello"), 400},
      {"two equal Content-Lengths", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
       400},
      {"two Content-Lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), 400},
      {"a Content-Length beyond 64 bits", post("Content-Length: 99999999999999999999\r\n"), 400},
      {"a Content-Length beyond 63 bits", post("Content-Length: 9223372036854775808\r\n"), 400},
      {"Content-Length and chunked",
       post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {"chunked and Content-Length",
       post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400},
      {"chunked and Content-Length 0",
       post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n"), 400},
      {"a GET with a body", get("Content-Length: 0\r\n"), 200},
      // Codings
      {"chunked", chunked("0\r\n\r\n"), 200},
      {"CHUNKED", post("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n"), 200},
      {"gzip", post("Transfer-Encoding: gzip\r\n"), 501},
      {"gzip, then chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501},
      {"chunked, then gzip", post("Transfer-Encoding: chunked, gzip\r\n"), 400},
      {"chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), 400},
      {"chunked in two fields",
       post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {"identity", post("Transfer-Encoding: identity\r\n"), 501},
      {"xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 501},
      {"chunked with a parameter", post("Transfer-Encoding: chunked;a=b\r\n", "0\r\n\r\n"), 501},
      {"an empty coding", post("Transfer-Encoding:\r\n"), 400},
      {"a comma before chunked", post("Transfer-Encoding: , chunked\r\n", "0\r\n\r\n"), 400},
      {"a vertical tab before chunked", post("Transfer-Encoding: \vchunked\r\n", "0\r\n\r\n"), 400},
      {"chunked in HTTP/1.0",
       "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      // Expectations
      {"an unknown expectation", post("Expect: tea\r\n"), 417},
      {"100-Continue without a body", get("Expect: 100-Continue\r\n"), 200},
      // Upgrades are not made
      {"h2c",
       get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"), 200},
      {"websocket", get("Connection: Upgrade\r\nUpgrade: websocket\r\n"), 200},
  };
  return all;
}

class Refusals : public ServerTest {};

TEST_F(Refusals, every_head_gets_its_status_and_a_refused_connection_ends) {
  start();
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    Client client = connect();
    client.send(one.request);
    client.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    const auto response = client.response();
    EXPECT_EQ(response.status, one.status);
    if (one.status == 200) continue;
    EXPECT_EQ(response.field("connection"), "close");
    client.read_to_end();
    EXPECT_FALSE(client.was_reset);
    EXPECT_EQ(client.received, "") << "nothing may follow a refusal";
  }
  for (const std::string& seen : application.seen) {
    if (seen.ends_with("/smuggled")) continue;
    EXPECT_EQ(seen.find("smuggled"), std::string::npos);
  }
}

TEST_F(Refusals, the_status_does_not_depend_on_how_the_bytes_are_split) {
  start();
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    Client client = connect();
    for (const char c : one.request) client.send_and_settle({&c, 1});
    EXPECT_EQ(client.response().status, one.status);
  }
}

struct BodyCase {
  const char* name;
  std::string body;
  int status;
  std::string received;
};

const std::vector<BodyCase>& body_cases() {
  using namespace std::string_literals;
  static const std::vector<BodyCase> all = {
      {"one chunk", "5\r\nhello\r\n0\r\n\r\n", 200, "hello"},
      {"leading zeros", "005\r\nhello\r\n00\r\n\r\n", 200, "hello"},
      {"upper and lower case", "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", 200,
       "01234567890123456789"},
      {"an extension", "5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n", 200, "hello"},
      {"trailers", "5\r\nhello\r\n0\r\nA: b\r\nC:\r\n\r\n", 200, "hello"},
      {"a size that is no number", "x\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an empty size", "\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension without a size", ";a=b\r\n", 400, ""},
      {"a negative size", "-5\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"a space after the size", "5 \r\nhello\r\n0\r\n\r\n", 400, ""},
      {"a space before the size", " 5\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an underscore in the size", "1_0\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"a size beyond 60 bits", "1000000000000000\r\n", 400, ""},
      {"a size that ends with a line feed", "5\nhello\r\n0\r\n\r\n", 400, ""},
      {"a size that ends with a carriage return", "5\rhello\r\n0\r\n\r\n", 400, ""},
      {"an extension with a line feed", "5;a\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension with a carriage return", "5;a\rb\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension with NUL", "5;\0\r\nhello\r\n0\r\n\r\n"s, 400, ""},
      {"an extension with blanks", "5 ; a\t= b ;c = \"d\";e\r\nhello\r\n0\r\n\r\n", 200, "hello"},
      {"an extension with a quoted string", "5;a=\"\\\" ;\t\xff\"\r\nhello\r\n0\r\n\r\n", 200,
       "hello"},
      {"an extension without a name", "5;\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension with a value alone", "5;=b\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension without its value", "5;a=\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension with a space in its name", "5;a b\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension with a space in its value", "5;a=b c\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension and a space", "5;a=b \r\nhello\r\n0\r\n\r\n", 400, ""},
      {"two equals signs in an extension", "5;a=b=c\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"empty extensions", "5;a=b;;\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension above ASCII", "5;\xff\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension with an open quote", "5;a=\"x\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension with an escaped end", "5;a=\"x\\\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension with a control character", "5;a=\"\x01\"\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension after its quotes", "5;a=\"x\"y\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"blanks of 257 bytes", "5" + std::string(257, ' ') + ";a\r\nhello\r\n0\r\n\r\n", 400, ""},
      {"an extension of 256 bytes", "5;" + std::string(256, 'a') + "\r\nhello\r\n0\r\n\r\n", 200,
       "hello"},
      {"an extension of 257 bytes", "5;" + std::string(257, 'a') + "\r\nhello\r\n0\r\n\r\n", 400,
       ""},
      {"data longer than its size", "5\r\nhello!\r\n0\r\n\r\n", 400, ""},
      {"a line feed after the data", "5\r\nhello\n0\r\n\r\n", 400, ""},
      {"a line feed at the end", "5\r\nhello\r\n0\r\n\n", 400, ""},
      {"a trailer without a colon", "5\r\nhello\r\n0\r\nAb\r\n\r\n", 400, ""},
      {"a trailer with a space before the colon", "5\r\nhello\r\n0\r\nA : b\r\n\r\n", 400, ""},
      {"a folded trailer", "5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n", 400, ""},
      {"a trailer with a line feed", "5\r\nhello\r\n0\r\nA: b\n\r\n", 400, ""},
  };
  return all;
}

class ChunkedBodies : public ServerTest {
 protected:
  ChunkedBodies() {
    application.handlers["/"] = application.body_handler = [](Exchange& exchange) {
      if (exchange.body_complete()) answer(exchange, 200, exchange.body());
    };
    application.disconnect_handler = [](Exchange& exchange) { exchange.release(); };
  }
};

TEST_F(ChunkedBodies, are_decoded_or_refused) {
  start();
  for (const BodyCase& one : body_cases()) {
    SCOPED_TRACE(one.name);
    Client client = connect();
    client.send(chunked(one.body));
    const auto response = client.response();
    EXPECT_EQ(response.status, one.status);
    if (one.status == 200) {
      EXPECT_EQ(response.body, one.received);
    } else {
      client.read_to_end();
      EXPECT_EQ(client.received, "");
    }
  }
}

TEST_F(ChunkedBodies, mean_the_same_byte_by_byte) {
  start();
  for (const BodyCase& one : body_cases()) {
    if (one.body.size() > 1000) continue;
    SCOPED_TRACE(one.name);
    Client client = connect();
    client.send(chunked(""));
    for (const char c : one.body) client.send_and_settle({&c, 1});
    const auto response = client.response();
    EXPECT_EQ(response.status, one.status);
    EXPECT_EQ(one.status == 200 ? response.body : "", one.received);
  }
}

TEST_F(ChunkedBodies, tell_the_application_of_a_broken_body_as_a_disconnect) {
  start();
  application.body_handler = application.disconnect_handler = nullptr;
  application.handlers["/"] = [](Exchange&) {};
  Client client = connect();
  client.send(chunked("5\r\nhello\r\n"));
  ASSERT_TRUE(turn_until([&] { return application.bodies > 0; }));
  client.send("nonsense\r\n");
  EXPECT_EQ(client.response().status, 400);
  EXPECT_EQ(application.disconnects, 1);
  Exchange& exchange = *application.held[0];
  EXPECT_EQ(exchange.body(), "hello") << "what came stays readable";
  EXPECT_TRUE(exchange.disconnected());
  EXPECT_EQ(exchange.send_head(200, {}), Exchange::SendResult::closed);
  exchange.release();
}

class Limits : public ServerTest {};

std::string request_line_of(std::size_t length) {
  const std::string_view around = "GET / HTTP/1.1";
  return "GET /" + std::string(length - around.size(), 'a') + " HTTP/1.1";
}

TEST_F(Limits, a_request_line_of_the_limit_is_served_and_one_more_byte_is_414) {
  ServerOptions options;
  options.limit_request_line = 200;
  start(options);
  EXPECT_EQ(status_of(line(request_line_of(200))), 200);
  EXPECT_EQ(status_of(line(request_line_of(201))), 414);
}

TEST_F(Limits, an_endless_request_line_is_refused_before_it_ends) {
  ServerOptions options;
  options.limit_request_line = 200;
  start(options);
  Client client = connect();
  client.send_and_settle("GET /" + std::string(150, 'a'));
  client.send_and_settle(std::string(100, 'a'));
  EXPECT_EQ(client.response().status, 414);
}

TEST_F(Limits, a_request_line_of_exactly_the_limit_may_wait_for_its_line_end) {
  ServerOptions options;
  options.limit_request_line = 200;
  start(options);
  Client client = connect();
  client.send_and_settle(request_line_of(200) + "\r");
  client.send("\nHost: a\r\n\r\n");
  EXPECT_EQ(client.response().status, 200);
}

TEST_F(Limits, as_many_fields_as_allowed_are_served_and_one_more_is_431) {
  ServerOptions options;
  options.limit_headers = 10;
  start(options);
  std::string nine;
  for (int i = 0; i < 9; ++i) nine += "X-" + std::to_string(i) + ": y\r\n";
  EXPECT_EQ(status_of(get(nine)), 200);
  EXPECT_EQ(status_of(get(nine + "Z: z\r\n")), 431);
}

TEST_F(Limits, field_bytes_of_the_limit_are_served_and_one_more_is_431) {
  ServerOptions options;
  options.limit_header_size = 1000;
  start(options);
  const std::size_t others = std::string_view("Host: a\r\nX: \r\n").size();
  EXPECT_EQ(status_of(get("X: " + std::string(1000 - others, 'y') + "\r\n")), 200);
  EXPECT_EQ(status_of(get("X: " + std::string(1001 - others, 'y') + "\r\n")), 431);
}

TEST_F(Limits, trailers_of_the_limits_are_served_and_one_more_field_or_byte_is_431) {
  ServerOptions options;
  options.limit_headers = 10;
  options.limit_header_size = 1000;
  start(options);
  application.handlers["/"] = application.body_handler = [](Exchange& exchange) {
    if (exchange.body_complete()) answer(exchange, 200, "");
  };
  application.disconnect_handler = [](Exchange& exchange) { exchange.release(); };
  const auto status_with = [&](std::string_view trailers) {
    return status_of(chunked("0\r\n" + std::string(trailers) + "\r\n"));
  };
  std::string ten;
  for (int i = 0; i < 10; ++i) ten += "X: y\r\n";
  EXPECT_EQ(status_with(ten), 200);
  EXPECT_EQ(status_with(ten + "X: y\r\n"), 431);
  const std::size_t others = std::string_view("X: \r\n").size();
  EXPECT_EQ(status_with("X: " + std::string(1000 - others, 'y') + "\r\n"), 200);
  EXPECT_EQ(status_with("X: " + std::string(1001 - others, 'y') + "\r\n"), 431);
}

TEST_F(Limits, an_endless_field_is_refused_before_it_ends) {
  ServerOptions options;
  options.limit_header_size = 1000;
  start(options);
  Client client = connect();
  client.send_and_settle("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(900, 'y'));
  client.send_and_settle(std::string(200, 'y'));
  EXPECT_EQ(client.response().status, 431);
}

TEST_F(Limits, a_body_of_the_limit_is_served_and_one_more_byte_is_413_without_waiting_for_it) {
  ServerOptions options;
  options.limit_body = 10;
  start(options);
  application.handlers["/"] = application.body_handler = [](Exchange& exchange) {
    if (exchange.body_complete()) answer(exchange, 200, exchange.body());
  };
  EXPECT_EQ(status_of(post("Content-Length: 10\r\n", "0123456789")), 200);
  EXPECT_EQ(status_of(post("Content-Length: 11\r\n")), 413);
  EXPECT_EQ(application.seen.size(), 1u)
      << "refused by its length, it never reaches the application";
  EXPECT_EQ(status_of(chunked("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n")), 200);
  EXPECT_EQ(status_of(chunked("5\r\n01234\r\n6\r\n567890\r\n")), 413);
  EXPECT_EQ(application.disconnects, 1);
  application.held.back()->release();
}

TEST_F(Limits, a_refusal_of_HEAD_has_no_body) {
  ServerOptions options;
  options.limit_headers = 1;
  start(options);
  const std::string all = exchange_bytes("HEAD / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n");
  EXPECT_TRUE(all.starts_with("HTTP/1.1 431 "));
  EXPECT_TRUE(all.ends_with("\r\n\r\n"));
}

TEST_F(Limits, a_refusal_is_one_line_of_text_and_is_counted) {
  start();
  const std::string all = exchange_bytes("GET / HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(all.starts_with("HTTP/1.1 400 Bad Request\r\n"));
  EXPECT_NE(all.find("Content-Type: text/plain; charset=utf-8\r\n"), std::string::npos);
  EXPECT_TRUE(all.ends_with("\r\n\r\nmissing Host\n"));
  EXPECT_EQ(requests(4), 1u);
}

}  // namespace
}  // namespace mgr::server
