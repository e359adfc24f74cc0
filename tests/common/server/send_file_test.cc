#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "tests/common/server/holding.h"
#include "tests/fakes/temporary_directory.h"

namespace mgr::server {
namespace {

constexpr std::size_t kLarge = 8 * 1024 * 1024;  // more than the sockets' buffers

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i)
    text[i] = static_cast<char>('a' + i * 31 % 26 + i / 4096 % 3);
  return text;
}

class SendFile : public HoldingTest {
 protected:
  UniqueFd file_of(const std::string& text) {
    path = directory.write("file" + std::to_string(++files), text);
    return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  }

  fakes::TemporaryDirectory directory;
  std::string path;  // of the last file
  int files = 0;
};

TEST_F(SendFile, a_part_of_a_file_is_the_whole_response_with_its_length) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  UniqueFd file = file_of("0123456789");
  const int number = ::dup(file.get());
  exchange.send_head(200, {});
  EXPECT_EQ(exchange.send_file(std::move(file), 2, 5, false), SendResult::sent);
  EXPECT_TRUE(exchange.response_complete());
  exchange.release();
  const auto response = client.response();
  EXPECT_EQ(response.field("content-length"), "5");
  EXPECT_EQ(response.body, "23456");
  EXPECT_EQ(::lseek(number, 0, SEEK_CUR), 0) << "the file's own position has moved";
  ::close(number);
  client.send(kGet);
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(SendFile, a_large_file_goes_out_as_the_client_reads) {
  start();
  const std::string text = pattern(kLarge);
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.set_observer(&application);
  exchange.send_head(200, {});
  EXPECT_EQ(exchange.send_file(file_of(text), 0, text.size(), false), SendResult::full);
  EXPECT_FALSE(exchange.response_complete());
  EXPECT_EQ(exchange.send_body("no", true), SendResult::wrong_order);
  EXPECT_EQ(exchange.send_file(file_of("no"), 0, 2, true), SendResult::wrong_order);
  turn_for(milliseconds(20));
  EXPECT_EQ(application.drains, 0);
  EXPECT_TRUE(client.response().body == text);
  EXPECT_EQ(application.drains, 1);
  EXPECT_TRUE(exchange.response_complete());
  EXPECT_GT(counters.bytes_out.load(), text.size());
  exchange.release();
  client.send(kGet);
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(SendFile, a_file_within_a_stream_is_one_chunk) {
  start();
  const std::string text = pattern(kLarge);
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.set_observer(&application);
  exchange.send_head(200, {});
  exchange.send_body("before ", true);
  EXPECT_EQ(exchange.send_file(file_of(text), 0, text.size(), true), SendResult::full);
  client.read_until([&] { return application.drains == 1; });
  EXPECT_EQ(exchange.send_file(file_of("small"), 0, 5, true), SendResult::sent);
  EXPECT_EQ(exchange.send_body(" after", false), SendResult::sent);
  exchange.release();
  EXPECT_TRUE(client.response().body == "before " + text + "small after");
}

TEST_F(SendFile, the_last_file_of_a_stream_ends_it) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.send_head(200, {});
  exchange.send_body("a", true);
  EXPECT_EQ(exchange.send_file(file_of("bc"), 0, 2, false), SendResult::sent);
  exchange.release();
  EXPECT_EQ(client.response().body, "abc");
}

TEST_F(SendFile, HTTP_1_0_gets_a_file_that_ends_with_the_connection) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client, "GET /later HTTP/1.0\r\n\r\n");
  exchange.send_head(200, {});
  exchange.send_body("a", true);
  EXPECT_EQ(exchange.send_file(file_of("bc"), 0, 2, false), SendResult::sent);
  exchange.release();
  EXPECT_TRUE(client.read_to_end().ends_with("\r\n\r\nabc"));
}

TEST_F(SendFile, HEAD_and_304_get_no_file) {
  start();
  Client client = connect();
  Exchange& head = hold(client, "HEAD /later HTTP/1.1\r\nHost: a\r\n\r\n");
  head.send_head(200, {});
  EXPECT_EQ(head.send_file(file_of("abc"), 0, 3, false), SendResult::sent);
  head.release();
  EXPECT_EQ(client.response(true).field("content-length"), "3");
  Exchange& not_modified = hold(client);
  not_modified.send_head(304, {});
  EXPECT_EQ(not_modified.send_file(file_of("abc"), 0, 3, false), SendResult::sent);
  not_modified.release();
  EXPECT_EQ(client.response(true).field("content-length"), "");
  client.send(kGet);
  EXPECT_EQ(client.response().body, "hello");
}

TEST_F(SendFile, an_empty_part_is_an_empty_body) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.send_head(200, {});
  EXPECT_EQ(exchange.send_file(file_of("abc"), 3, 0, false), SendResult::sent);
  exchange.release();
  EXPECT_EQ(client.response().field("content-length"), "0");
}

TEST_F(SendFile, a_file_that_contradicts_the_length_is_refused_before_anything_is_sent) {
  start();
  for (const std::uint64_t count : {2u, 4u}) {
    Client client = connect();
    Exchange& exchange = hold(client);
    const std::vector<HeaderField> fields = {{"content-length", "3"}};
    exchange.send_head(200, fields);
    EXPECT_EQ(exchange.send_file(file_of("abcd"), 0, count, false),
              count > 3 ? SendResult::too_long : SendResult::too_short);
    EXPECT_FALSE(exchange.head_flushed());
    exchange.respond(500, "text/plain", "no");
    exchange.release();
    EXPECT_EQ(client.response().status, 500);
  }
}

TEST_F(SendFile, a_file_that_contradicts_the_length_of_a_response_that_has_begun_ends_it) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  const std::vector<HeaderField> fields = {{"content-length", "3"}};
  exchange.send_head(200, fields);
  exchange.send_body("a", true);
  EXPECT_EQ(exchange.send_file(file_of("bcd"), 0, 3, true), SendResult::too_long);
  EXPECT_EQ(exchange.send_body("", false), SendResult::closed);
  exchange.release();
  EXPECT_TRUE(client.read_to_end().ends_with("\r\n\r\na"));
}

TEST_F(SendFile, a_file_that_ends_early_ends_the_connection) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.send_head(200, {});
  EXPECT_EQ(exchange.send_file(file_of("abc"), 2, 5, false), SendResult::full);
  exchange.set_observer(&application);
  EXPECT_TRUE(client.read_to_end().ends_with("Content-Length: 5\r\n\r\nc"));
  EXPECT_EQ(application.disconnects, 1);
  EXPECT_TRUE(exchange.disconnected());
  exchange.release();
}

TEST_F(SendFile, a_file_that_is_cut_while_it_is_sent_ends_the_connection) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.set_observer(&application);
  exchange.send_head(200, {});
  EXPECT_EQ(exchange.send_file(file_of(pattern(kLarge)), 0, kLarge, false), SendResult::full);
  ASSERT_EQ(::truncate(path.c_str(), 10), 0);
  EXPECT_LT(client.read_to_end().size(), kLarge);
  EXPECT_EQ(application.disconnects, 1);
  exchange.release();
}

TEST_F(SendFile, a_directory_ends_the_connection) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.send_head(200, {});
  UniqueFd file(::open(directory.path().c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(exchange.send_file(std::move(file), 0, 5, false), SendResult::too_short);
  EXPECT_TRUE(exchange.disconnected());
  exchange.release();
  EXPECT_TRUE(client.read_to_end().ends_with("\r\n\r\n"));
}

// Kernels differ in whether sendfile() takes these.
TEST_F(SendFile, a_file_of_proc_is_sent) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.send_head(200, {});
  UniqueFd file(::open("/proc/sys/kernel/ostype", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(exchange.send_file(std::move(file), 0, 6, false), SendResult::sent);
  exchange.release();
  EXPECT_EQ(client.response().body, "Linux\n");
}

TEST_F(SendFile, a_client_that_leaves_during_a_file_is_told_without_SIGPIPE) {
  ASSERT_NE(::signal(SIGPIPE, SIG_DFL), SIG_ERR);
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.set_observer(&application);
  exchange.send_head(200, {});
  EXPECT_EQ(exchange.send_file(file_of(pattern(kLarge)), 0, kLarge, false), SendResult::full);
  client.reset();
  EXPECT_TRUE(turn_until([&] { return application.disconnects == 1; }));
  EXPECT_EQ(exchange.send_file(file_of("a"), 0, 1, false), SendResult::closed);
  exchange.release();
}

TEST_F(SendFile, a_client_that_reads_nothing_of_a_file_is_disconnected_after_write_timeout) {
  ServerOptions options;
  options.write_timeout = milliseconds(100);
  start(options);
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.set_observer(&application);
  exchange.send_head(200, {});
  EXPECT_EQ(exchange.send_file(file_of(pattern(kLarge)), 0, kLarge, false), SendResult::full);
  EXPECT_TRUE(turn_until([&] { return application.disconnects == 1; }));
  exchange.release();
}

TEST_F(SendFile, an_abort_during_a_file_ends_the_connection) {
  start();
  Client client = connect();
  Exchange& exchange = hold(client);
  exchange.send_head(200, {});
  EXPECT_EQ(exchange.send_file(file_of(pattern(kLarge)), 0, kLarge, false), SendResult::full);
  exchange.abort();
  exchange.release();
  EXPECT_LT(client.read_to_end().size(), kLarge);
}

TEST_F(SendFile, a_pipelined_request_waits_for_the_file_before_it) {
  start();
  const std::string text = pattern(kLarge);
  Client client = connect();
  Exchange& exchange = hold(client, std::string(kLater) + std::string(kGet));
  exchange.send_head(200, {});
  EXPECT_EQ(exchange.send_file(file_of(text), 0, text.size(), false), SendResult::full);
  exchange.set_observer(nullptr);
  EXPECT_TRUE(client.response().body == text);
  exchange.release();
  EXPECT_EQ(client.response().body, "hello");
}

}  // namespace
}  // namespace mgr::server
