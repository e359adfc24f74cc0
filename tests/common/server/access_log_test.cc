#include "common/server/access_log.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <regex>

#include "common/ipc/channel.h"
#include "tests/common/server/support.h"

namespace mgr::server {
namespace {

class AccessLogs : public ServerTest {
 protected:
  AccessLogs() : file_(::memfd_create("log", MFD_CLOEXEC)) {}
  ServerOptions logging() {
    ServerOptions options;
    options.access_log_fd = file_.get();
    options.forwarded = ForwardedFamily::x_forwarded;
    options.trusted_proxies = {"127.0.0.1"};
    return options;
  }
  std::string text() { return ipc::read_all(file_.get()).value(); }

  UniqueFd file_;
};

TEST_F(AccessLogs, have_a_line_in_the_combined_format_for_a_request) {
  start(logging());
  status_of("GET /a?b HTTP/1.1\r\nHost: a\r\nReferer: http://r/\r\nUser-Agent: test/1\r\n\r\n");
  EXPECT_TRUE(std::regex_match(
      text(),
      std::regex(R"(127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] )"
                 R"("GET /a\?b HTTP/1\.1" 200 5 "http://r/" "test/1"\n)")))
      << text();
}

TEST_F(AccessLogs, name_the_client_that_the_policy_found) {
  start(logging());
  status_of("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n");
  EXPECT_TRUE(text().starts_with("192.0.2.7 - - [")) << text();
  EXPECT_TRUE(text().ends_with("\"GET / HTTP/1.1\" 200 5 \"-\" \"-\"\n")) << text();
}

TEST_F(AccessLogs, have_refusals_with_what_came_of_the_request_line) {
  start(logging());
  status_of("GET / HTTP/1.1\r\n\r\n");
  EXPECT_NE(text().find("\"GET / HTTP/1.1\" 400 13 \"-\" \"-\"\n"), std::string::npos) << text();
  status_of("GET /\"\x01\xff\\ HTTP/1.1\r\n\r\n");
  EXPECT_NE(text().find(R"("GET /\"\x01\xff\\ HTTP/1.1" 400 )"), std::string::npos) << text();
  status_of("\x16\x03\x01\n");
  EXPECT_NE(text().find(R"("\x16\x03\x01" 400 )"), std::string::npos) << text();
}

TEST_F(AccessLogs, escape_what_the_client_sends) {
  start(logging());
  status_of("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: a\"b\\c\xc3\xa4\td\r\n\r\n");
  EXPECT_NE(text().find(R"("a\"b\\c\xc3\xa4\x09d")"), std::string::npos) << text();
}

TEST_F(AccessLogs, have_a_dash_for_what_was_never_answered) {
  application.handlers["/"] = [](Exchange&) {};
  start(logging());
  Client client = connect();
  client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  ASSERT_TRUE(turn_until([&] { return !application.held.empty(); }));
  client.reset();
  ASSERT_TRUE(turn_until([&] { return application.disconnects == 1; }));
  application.held[0]->release();
  EXPECT_NE(text().find("\"GET / HTTP/1.1\" - - "), std::string::npos) << text();
}

TEST_F(AccessLogs, count_the_bytes_of_bodies_alone) {
  application.handlers["/"] = [](Exchange& exchange) {
    exchange.send_head(200, {});
    exchange.send_body("abc", true);
    exchange.send_body("defg", false);
    exchange.release();
  };
  start(logging());
  status_of("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_NE(text().find("\" 200 7 \""), std::string::npos) << text();
}

TEST_F(AccessLogs, drop_lines_that_a_full_pipe_does_not_take_and_say_how_many) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd out(ends[0]);
  const UniqueFd in(ends[1]);
  int log_ends[2];
  ASSERT_EQ(::pipe2(log_ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd log_out(log_ends[0]);
  const UniqueFd log_in(log_ends[1]);
  const Log to(log_in.get(), LogFormat::text, LogLevel::info, "test");
  const std::string filler(4096, 'x');
  while (::write(in.get(), filler.data(), filler.size()) > 0) {
  }
  ASSERT_EQ(::fcntl(in.get(), F_SETFL, 0), 0) << "a write would wait from here on";
  AccessLog access(in.get(), to);
  access.write({"1.2.3.4", "GET / HTTP/1.1", 200, 1, {}, {}});
  access.write({"1.2.3.4", "GET / HTTP/1.1", 200, 1, {}, {}});
  std::vector<char> buffer(1 << 20);
  ASSERT_GT(::read(out.get(), buffer.data(), buffer.size()), 0);
  access.write({"1.2.3.5", "GET / HTTP/1.1", 200, 1, {}, {}});
  const ssize_t n = ::read(out.get(), buffer.data(), buffer.size());
  ASSERT_GT(n, 0);
  EXPECT_TRUE(std::string_view(buffer.data(), static_cast<std::size_t>(n)).starts_with("1.2.3.5 "));
  const ssize_t logged = ::read(log_out.get(), buffer.data(), buffer.size());
  ASSERT_GT(logged, 0);
  EXPECT_NE(std::string_view(buffer.data(), static_cast<std::size_t>(logged))
                .find("2 lines of the access log"),
            std::string_view::npos);
}

TEST_F(AccessLogs, keep_a_line_within_what_a_pipe_takes_at_once) {
  AccessLog access(file_.get(), log);
  access.write({"1.2.3.4", std::string(10000, 'x'), 200, 1, {}, {}});
  EXPECT_EQ(text().size(), 4096u);
  EXPECT_TRUE(text().ends_with("x\n"));
}

}  // namespace
}  // namespace mgr::server
