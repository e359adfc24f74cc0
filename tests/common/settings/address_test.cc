#include "common/net/address.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

namespace mgr::net {
namespace {

using Kind = BindAddress::Kind;

TEST(BindAddress, takes_every_form_of_the_contract) {
  const BindAddress v4 = *parse_bind_address("127.0.0.1:8000");
  EXPECT_EQ(v4.kind, Kind::tcp);
  EXPECT_EQ(v4.host, "127.0.0.1");
  EXPECT_EQ(v4.port, 8000);
  EXPECT_EQ(v4.text, "127.0.0.1:8000");

  EXPECT_EQ(parse_bind_address("[::1]:80")->host, "::1");
  EXPECT_EQ(parse_bind_address("[fe80::1%eth0]:80")->host, "fe80::1%eth0");
  EXPECT_EQ(parse_bind_address("localhost:0")->port, 0);
  EXPECT_EQ(parse_bind_address(":8000")->host, "");

  const BindAddress path = *parse_bind_address("unix:/run/app.sock");
  EXPECT_EQ(path.kind, Kind::unix_path);
  EXPECT_EQ(path.path, "/run/app.sock");

  const BindAddress abstract = *parse_bind_address("unix:@app");
  EXPECT_EQ(abstract.kind, Kind::unix_abstract);
  EXPECT_EQ(abstract.path, "app");

  const BindAddress fd = *parse_bind_address("fd://3");
  EXPECT_EQ(fd.kind, Kind::fd);
  EXPECT_EQ(fd.fd, 3);
}

TEST(BindAddress, refuses_everything_else) {
  for (const char* text : {"",
                           "8000",
                           "localhost",
                           "127.0.0.1",
                           "[::1]",
                           "[::1]8000",
                           "[::1",
                           "::1:8000",
                           "[x]:80",
                           "[127.0.0.1]:80",
                           "host:",
                           "host:x",
                           "host:-1",
                           "host:+1",
                           "host:65536",
                           "host:80 ",
                           "a b:80",
                           "*:80",
                           "256.1.1.1:80",
                           "127.1:80",
                           "http://host:80",
                           "unix:",
                           "unix:@",
                           "unix:app.sock",
                           "unix:/run/",
                           "fd://",
                           "fd://x",
                           "fd://0",
                           "fd://2",
                           "fd://-3",
                           "ho/st:80"})
    EXPECT_FALSE(parse_bind_address(text)) << text;
}

TEST(BindAddress, says_what_is_wrong) {
  EXPECT_EQ(parse_bind_address("::1:8000").error().message(),
            "'::1:8000': an IPv6 address needs brackets, as [::1]:8000");
  EXPECT_EQ(parse_bind_address("8000").error().message(), "'8000' has no port");
  EXPECT_EQ(parse_bind_address("h:99999").error().message(),
            "'h:99999': a port is a number from 0 to 65535");
}

TEST(UnixAddress, a_path_counts_its_terminator_and_an_abstract_name_its_length) {
  const UnixAddress path = *make_unix_address("/a");
  EXPECT_EQ(path.length, sizeof(sa_family_t) + 3);
  const UnixAddress abstract = *make_unix_address("@ab");
  EXPECT_EQ(abstract.length, sizeof(sa_family_t) + 3);
  EXPECT_EQ(abstract.address.sun_path[0], '\0');
  EXPECT_EQ(abstract.address.sun_path[1], 'a');
}

TEST(UnixAddress, refuses_a_path_that_does_not_fit) {
  EXPECT_TRUE(make_unix_address("/" + std::string(kMaxUnixPath - 1, 'x')));
  EXPECT_FALSE(make_unix_address("/" + std::string(kMaxUnixPath, 'x')));
  EXPECT_FALSE(make_unix_address(""));
  EXPECT_FALSE(parse_bind_address("unix:/" + std::string(kMaxUnixPath, 'x')));
}

TEST(Network, contains_its_addresses_alone) {
  const Network ten = *parse_network("10.0.0.0/8");
  EXPECT_TRUE(ten.contains("10.255.0.1"));
  EXPECT_TRUE(ten.contains("::ffff:10.0.0.1"));
  EXPECT_FALSE(ten.contains("11.0.0.1"));
  EXPECT_FALSE(ten.contains("::1"));
  EXPECT_FALSE(ten.contains("unix"));

  const Network odd = *parse_network("fd00::/9");
  EXPECT_TRUE(odd.contains("fd7f::1"));
  EXPECT_FALSE(odd.contains("fd80::1"));

  EXPECT_TRUE(parse_network("::1")->contains("::1"));
  EXPECT_FALSE(parse_network("::1")->contains("::2"));
  EXPECT_TRUE(parse_network("0.0.0.0/0")->contains("203.0.113.9"));
}

TEST(Network, refuses_what_is_none) {
  for (const char* text : {"", "x", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "::/129", "10.0.0",
                           "10.0.0.1/8", "[::1]", "127.0.0.1:80"})
    EXPECT_FALSE(parse_network(text)) << text;
}

}  // namespace
}  // namespace mgr::net
