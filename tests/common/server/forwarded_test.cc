#include "common/server/forwarded.h"

#include "tests/common/server/support.h"

namespace mgr::server {
namespace {

class Forwarding : public ServerTest {
 protected:
  struct Seen {
    std::string client;
    int port = 0;
    std::string scheme;
    std::string host;
    std::string server;
    int server_port = 0;
  };

  static ServerOptions trusting(std::vector<std::string> proxies,
                                ForwardedFamily family = ForwardedFamily::x_forwarded,
                                std::vector<std::string> also = {}) {
    ServerOptions options;
    options.forwarded = family;
    options.trusted_proxies = std::move(proxies);
    options.forwarded_trust = std::move(also);
    return options;
  }
  Seen see(ServerOptions options, std::string_view fields) {
    Seen seen;
    application.handlers["/"] = [&](Exchange& exchange) {
      const Request& request = exchange.request();
      if (request.client) {
        seen.client = request.client->host;
        seen.port = request.client->port;
      }
      seen.scheme = request.scheme;
      seen.server = request.server->host;
      seen.server_port = request.server->port;
      for (const auto& field : request.headers) {
        if (field.name == "host") seen.host = field.value;
      }
      answer(exchange, 200, "");
    };
    server.reset();
    if (over_unix_) {
      start_unix(std::move(options));
    } else {
      start(std::move(options));
    }
    EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: own\r\n" + std::string(fields) + "\r\n"), 200);
    return seen;
  }
  std::string client(std::vector<std::string> proxies, std::string_view fields) {
    return see(trusting(std::move(proxies)), fields).client;
  }

  bool over_unix_ = false;
};

TEST_F(Forwarding, is_believed_from_a_trusted_peer) {
  const Seen seen =
      see(trusting({"127.0.0.1"}), "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n");
  EXPECT_EQ(seen.client, "192.0.2.7");
  EXPECT_EQ(seen.port, 0);
  EXPECT_EQ(seen.scheme, "https");
}

TEST_F(Forwarding, is_not_believed_from_others) {
  const Seen seen = see(trusting({"10.0.0.0/8", "::1", "unix"}),
                        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n");
  EXPECT_EQ(seen.client, "127.0.0.1");
  EXPECT_GT(seen.port, 0);
  EXPECT_EQ(seen.scheme, "http");
}

TEST_F(Forwarding, can_be_off) {
  const Seen seen = see(trusting({"*"}, ForwardedFamily::off),
                        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
                        "Forwarded: for=192.0.2.8;proto=https\r\n");
  EXPECT_EQ(seen.client, "127.0.0.1");
  EXPECT_EQ(seen.scheme, "http");
}

TEST_F(Forwarding, trusts_networks_and_everybody) {
  const std::string_view fields = "X-Forwarded-For: 192.0.2.7\r\n";
  EXPECT_EQ(client({"127.0.0.0/8"}, fields), "192.0.2.7");
  EXPECT_EQ(client({"126.0.0.0/7"}, fields), "192.0.2.7");
  EXPECT_EQ(client({"127.0.0.2/31"}, fields), "127.0.0.1");
  EXPECT_EQ(client({"*"}, fields), "192.0.2.7");
  EXPECT_EQ(client({"0.0.0.0/0"}, fields), "192.0.2.7");
  EXPECT_EQ(client({"::ffff:127.0.0.1"}, fields), "192.0.2.7");
  EXPECT_EQ(client({"::ffff:127.0.0.0/104"}, fields), "192.0.2.7");
  EXPECT_EQ(client({"::/0"}, fields), "192.0.2.7");
  EXPECT_EQ(client({"2001:db8::/32"}, fields), "127.0.0.1");
}

TEST_F(Forwarding, takes_the_right_most_address_that_is_not_trusted) {
  const std::vector<std::string> proxies = {"127.0.0.1", "10.0.0.0/8"};
  EXPECT_EQ(client(proxies, "X-Forwarded-For: 192.0.2.1, 192.0.2.2, 10.0.0.1\r\n"), "192.0.2.2");
  EXPECT_EQ(client(proxies, "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.0.0.2,10.0.0.1\r\n"),
            "192.0.2.1");
  EXPECT_EQ(client(proxies, "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n"),
            "192.0.2.2");
}

TEST_F(Forwarding, takes_the_left_most_when_all_are_trusted) {
  EXPECT_EQ(client({"127.0.0.1", "10.0.0.0/8"}, "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n"),
            "10.0.0.3");
  EXPECT_EQ(client({"*"}, "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n"), "192.0.2.1");
}

TEST_F(Forwarding, tolerates_ports_and_brackets) {
  Seen seen = see(trusting({"127.0.0.1"}), "X-Forwarded-For: 192.0.2.7:1234\r\n");
  EXPECT_EQ(seen.client, "192.0.2.7");
  EXPECT_EQ(seen.port, 1234);
  seen = see(trusting({"127.0.0.1"}), "X-Forwarded-For: [2001:db8::1]:99\r\n");
  EXPECT_EQ(seen.client, "2001:db8::1");
  EXPECT_EQ(seen.port, 99);
  EXPECT_EQ(client({"127.0.0.1"}, "X-Forwarded-For: 2001:db8::1\r\n"), "2001:db8::1");
  EXPECT_EQ(client({"127.0.0.1"}, "X-Forwarded-For: [2001:db8::1]\r\n"), "2001:db8::1");
}

TEST_F(Forwarding, stops_at_garbage) {
  const std::vector<std::string> proxies = {"127.0.0.1", "10.0.0.0/8"};
  EXPECT_EQ(client(proxies, "X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.1\r\n"), "10.0.0.1");
  EXPECT_EQ(client(proxies, "X-Forwarded-For: 192.0.2.1, nonsense\r\n"), "127.0.0.1");
  EXPECT_EQ(client(proxies, "X-Forwarded-For: \r\n"), "127.0.0.1");
  EXPECT_EQ(client(proxies, "X-Forwarded-For: ,,,\r\n"), "127.0.0.1");
  EXPECT_EQ(client(proxies, "X-Forwarded-For: \", 192.0.2.1\r\n"), "192.0.2.1");
  EXPECT_EQ(client(proxies, "X-Forwarded-For: 300.0.0.1\r\n"), "127.0.0.1");
  EXPECT_EQ(client(proxies, "X-Forwarded-For: [2001:db8::1\r\n"), "127.0.0.1");
}

TEST_F(Forwarding, takes_no_empty_element_for_one) {
  const std::vector<std::string> proxies = {"127.0.0.1", "10.0.0.0/8"};
  EXPECT_EQ(client(proxies, "X-Forwarded-For: 192.0.2.1,\r\n"), "192.0.2.1");
  EXPECT_EQ(client(proxies, "X-Forwarded-For: 192.0.2.1, ,10.0.0.1 , ,\r\n"), "192.0.2.1");
  EXPECT_EQ(see(trusting(proxies), "X-Forwarded-Proto: https, ,\r\n").scheme, "https");
  const Seen seen = see(trusting(proxies, ForwardedFamily::rfc7239),
                        "Forwarded: , for=192.0.2.1;proto=https, ,for=10.0.0.1;proto=http,\r\n");
  EXPECT_EQ(seen.client, "192.0.2.1");
  EXPECT_EQ(seen.scheme, "https");
}

TEST_F(Forwarding, takes_the_last_scheme_and_only_known_ones) {
  const auto scheme = [&](std::string_view fields) {
    return see(trusting({"127.0.0.1"}), fields).scheme;
  };
  EXPECT_EQ(scheme("X-Forwarded-Proto: HTTPS\r\n"), "https");
  EXPECT_EQ(scheme("X-Forwarded-Proto: http, https\r\n"), "https");
  EXPECT_EQ(scheme("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n"), "http");
  EXPECT_EQ(scheme("X-Forwarded-Proto: gopher\r\n"), "http");
  EXPECT_EQ(scheme("X-Forwarded-Proto: \r\n"), "http");
}

TEST_F(Forwarding, host_and_port_count_only_when_they_are_trusted) {
  const std::string_view fields =
      "X-Forwarded-Host: public.example\r\nX-Forwarded-Port: 8443\r\nX-Forwarded-Proto: https\r\n";
  Seen seen = see(trusting({"127.0.0.1"}), fields);
  EXPECT_EQ(seen.host, "own");
  EXPECT_EQ(seen.server, "127.0.0.1");
  seen = see(trusting({"127.0.0.1"}, ForwardedFamily::x_forwarded, {"host"}), fields);
  EXPECT_EQ(seen.host, "public.example");
  EXPECT_EQ(seen.server, "public.example");
  EXPECT_EQ(seen.server_port, 443);
  seen = see(trusting({"127.0.0.1"}, ForwardedFamily::x_forwarded, {"host", "port"}), fields);
  EXPECT_EQ(seen.server_port, 8443);
  seen = see(trusting({"127.0.0.1"}, ForwardedFamily::x_forwarded, {"port"}), fields);
  EXPECT_EQ(seen.server, "127.0.0.1");
  EXPECT_EQ(seen.server_port, 8443);
  seen = see(trusting({"127.0.0.1"}, ForwardedFamily::x_forwarded, {"host"}),
             "X-Forwarded-Host: [2001:db8::1]:81\r\n");
  EXPECT_EQ(seen.host, "[2001:db8::1]:81");
  EXPECT_EQ(seen.server_port, 81);
  seen = see(trusting({"127.0.0.1"}, ForwardedFamily::x_forwarded, {"host"}),
             "X-Forwarded-Host: evil/path\r\n");
  EXPECT_EQ(seen.host, "own");
}

TEST_F(Forwarding, the_other_family_changes_nothing) {
  Seen seen = see(trusting({"127.0.0.1"}, ForwardedFamily::x_forwarded, {"host"}),
                  "Forwarded: for=192.0.2.7;proto=https;host=evil\r\n");
  EXPECT_EQ(seen.client, "127.0.0.1");
  EXPECT_EQ(seen.scheme, "http");
  EXPECT_EQ(seen.host, "own");
  seen = see(trusting({"127.0.0.1"}, ForwardedFamily::rfc7239, {"host", "port"}),
             "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n"
             "X-Forwarded-Port: 1\r\n");
  EXPECT_EQ(seen.client, "127.0.0.1");
  EXPECT_EQ(seen.scheme, "http");
  EXPECT_EQ(seen.host, "own");
  EXPECT_EQ(seen.server, "127.0.0.1");
}

TEST_F(Forwarding, reads_rfc7239) {
  const auto options = [](std::vector<std::string> also = {}) {
    return trusting({"127.0.0.1", "10.0.0.0/8"}, ForwardedFamily::rfc7239, std::move(also));
  };
  Seen seen = see(options(), "Forwarded: For=\"[2001:db8::1]:4711\";Proto=https;by=10.0.0.1\r\n");
  EXPECT_EQ(seen.client, "2001:db8::1");
  EXPECT_EQ(seen.port, 4711);
  EXPECT_EQ(seen.scheme, "https");
  seen = see(options(),
             "Forwarded: for=192.0.2.1;proto=https\r\n"
             "Forwarded: for=192.0.2.2, for=10.0.0.9;proto=http\r\n");
  EXPECT_EQ(seen.client, "192.0.2.2");
  EXPECT_EQ(seen.scheme, "http") << "of the client's own element";
  seen = see(options({"host"}),
             "Forwarded: for=192.0.2.1;host=x;proto=http\r\n"
             "Forwarded: for=192.0.2.2;proto=https;host=y, for=10.0.0.9;proto=http;host=z\r\n");
  EXPECT_EQ(seen.client, "192.0.2.2");
  EXPECT_EQ(seen.scheme, "https");
  EXPECT_EQ(seen.host, "y");
  seen = see(options(), "Forwarded: for=192.0.2.1;proto=http, for=_hidden;proto=https\r\n");
  EXPECT_EQ(seen.client, "127.0.0.1");
  EXPECT_EQ(seen.scheme, "https") << "of a nearest proxy that hides its client";
  seen = see(options(), "Forwarded: for=_hidden;proto=https, for=10.0.0.9;proto=http\r\n");
  EXPECT_EQ(seen.client, "10.0.0.9");
  EXPECT_EQ(seen.scheme, "http");
  seen = see(options(), "Forwarded: for=192.0.2.1, for=_hidden\r\n");
  EXPECT_EQ(seen.client, "127.0.0.1");
  seen = see(options({"host"}), "Forwarded: for=192.0.2.1;host=\"public.example:81\"\r\n");
  EXPECT_EQ(seen.host, "public.example:81");
  EXPECT_EQ(seen.server_port, 81);
  seen = see(options(), "Forwarded: for=\"a,b;c=\", for=192.0.2.3\r\n");
  EXPECT_EQ(seen.client, "192.0.2.3");
}

TEST_F(Forwarding, over_a_Unix_socket_needs_unix_among_the_trusted) {
  over_unix_ = true;
  EXPECT_EQ(client({"unix"}, "X-Forwarded-For: 192.0.2.7\r\n"), "192.0.2.7");
  EXPECT_EQ(client({"127.0.0.1"}, "X-Forwarded-For: 192.0.2.7\r\n"), "");
}

TEST_F(Forwarding, does_not_leak_into_the_next_request_of_a_connection) {
  std::vector<std::string> clients;
  application.handlers["/"] = [&](Exchange& exchange) {
    clients.push_back(exchange.request().client->host);
    answer(exchange, 200, "");
  };
  start(trusting({"127.0.0.1"}));
  Client one = connect();
  one.send(
      "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  one.response();
  one.response();
  EXPECT_EQ(clients, (std::vector<std::string>{"192.0.2.7", "127.0.0.1"}));
}

TEST(Address, of_every_family_is_written) {
  EXPECT_TRUE(IpAddress::parse("::ffff:1.2.3.4")->is_v4());
  EXPECT_FALSE(IpAddress::parse("::1")->is_v4());
  for (const char* bad : {"", "1.2.3", "1.2.3.4.5", "x", "[::1]", "1.2.3.4 ", "::1%lo"}) {
    EXPECT_FALSE(IpAddress::parse(bad)) << bad;
  }
  EXPECT_FALSE(IpAddress::parse(std::string(100, '1')));
  EXPECT_TRUE(IpAddress::parse("10.1.2.3")->same_prefix(*IpAddress::parse("10.1.2.9"), 96 + 24));
  EXPECT_FALSE(IpAddress::parse("10.1.2.3")->same_prefix(*IpAddress::parse("10.1.3.3"), 96 + 24));
  EXPECT_TRUE(IpAddress::parse("10.1.2.3")->same_prefix(*IpAddress::parse("10.1.3.3"), 96 + 23));
}

}  // namespace
}  // namespace mgr::server
