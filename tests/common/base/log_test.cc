#include "common/base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <regex>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/ipc/channel.h"

namespace mgr {
namespace {

class Logs : public testing::Test {
 protected:
  Logs() : file_(::memfd_create("log", MFD_CLOEXEC)) {}
  Log log(LogFormat format, LogLevel level = LogLevel::info) {
    return Log(file_.get(), format, level, "worker 3");
  }
  std::string text() { return ipc::read_all(file_.get()).value(); }

  UniqueFd file_;
};

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    out.reset(ends[0]);
    in.reset(ends[1]);
    ::fcntl(out.get(), F_SETFL, O_NONBLOCK);
  }
  std::string read() {
    std::string text(1 << 20, '\0');
    const ssize_t n = ::read(out.get(), text.data(), text.size());
    text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return text;
  }
  void fill() {
    ::fcntl(in.get(), F_SETFL, O_NONBLOCK);
    const std::string filler(4096, '.');
    while (::write(in.get(), filler.data(), filler.size()) > 0) {
    }
    ::fcntl(in.get(), F_SETFL, 0);
  }
  UniqueFd out;
  UniqueFd in;
};

TEST_F(Logs, name_time_process_writer_and_level) {
  log(LogFormat::text).info("listening on {}", 80);
  EXPECT_TRUE(std::regex_match(
      text(),
      std::regex(R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d:\d\d \[)" +
                 std::to_string(::getpid()) + R"(\] \[worker 3\] \[info\] listening on 80\n)")))
      << text();
}

TEST_F(Logs, in_json_keep_several_lines_and_odd_bytes_in_one_record) {
  log(LogFormat::json).error("a \"b\"\nc \xff");
  const auto line = nlohmann::json::parse(text());
  EXPECT_EQ(line["level"], "error");
  EXPECT_EQ(line["who"], "worker 3");
  EXPECT_EQ(line["pid"], ::getpid());
  EXPECT_EQ(line["message"], "a \"b\"\nc \xef\xbf\xbd");
}

TEST_F(Logs, in_text_have_no_control_characters_but_ends_of_lines_and_tabs) {
  log(LogFormat::text).error("a\tb\nc\x1b[31m\r\x7f\xc3\xa4");
  EXPECT_TRUE(text().ends_with("] a\tb\nc\\x1b[31m\\x0d\\x7f\xc3\xa4\n")) << text();
}

TEST_F(Logs, leave_out_what_is_below_their_level) {
  Log quiet = log(LogFormat::text, LogLevel::warning);
  quiet.info("one");
  quiet.debug("two");
  quiet.warning("three");
  quiet.set_level(LogLevel::debug);
  quiet.debug("four");
  EXPECT_EQ(text().find("one"), std::string::npos);
  EXPECT_EQ(text().find("two"), std::string::npos);
  EXPECT_NE(text().find("[warning] three"), std::string::npos);
  EXPECT_NE(text().find("[debug] four"), std::string::npos);
}

TEST_F(Logs, never_wait_for_a_pipe_and_say_how_much_was_lost) {
  Pipe pipe;
  pipe.fill();
  const Log to(pipe.in.get(), LogFormat::text, LogLevel::info, "supervisor");
  to.info("lost");
  to.info("lost too");
  (void)pipe.read();
  to.info("back");
  const std::string text = pipe.read();
  EXPECT_NE(text.find("2 log records were lost before this one"), std::string::npos) << text;
  EXPECT_LT(text.find("lost before"), text.find("back"));
  EXPECT_EQ(text.find("lost too"), std::string::npos);
  EXPECT_EQ(to.dropped(), 2u);
}

TEST_F(Logs, write_a_long_record_to_a_pipe_whole) {
  Pipe pipe;
  const Log to(pipe.in.get(), LogFormat::text, LogLevel::info, "mold");
  to.write(LogLevel::info, std::string(20'000, 'x') + "end");
  const std::string text = pipe.read();
  EXPECT_TRUE(text.ends_with("xend\n"));
  EXPECT_GT(text.size(), 20'000u);
}

TEST_F(Logs, do_not_fail_on_a_descriptor_that_is_closed) {
  const Log to(-1, LogFormat::text, LogLevel::info, "mold");
  to.error("nobody hears");
  to.error("nor this");
}

TEST_F(Logs, take_another_name) {
  Log to = log(LogFormat::text);
  to.set_who("worker 4");
  to.info("x");
  EXPECT_NE(text().find("[worker 4]"), std::string::npos);
}

// The descriptor is what the service manager made for standard error.
class JournalLogs : public Logs {
 protected:
  JournalLogs() {
    struct stat info {};
    EXPECT_EQ(::fstat(file_.get(), &info), 0);
    ::setenv("JOURNAL_STREAM", fmt::format("{}:{}", info.st_dev, info.st_ino).c_str(), 1);
  }
  ~JournalLogs() override { ::unsetenv("JOURNAL_STREAM"); }
};

TEST_F(JournalLogs, begin_with_the_priority_and_leave_out_what_the_journal_has) {
  Log to = log(LogFormat::text, LogLevel::debug);
  to.debug("a");
  to.info("b");
  to.warning("c");
  to.error("d");
  EXPECT_EQ(text(),
            "<7>[worker 3] [debug] a\n<6>[worker 3] [info] b\n<4>[worker 3] [warning] c\n"
            "<3>[worker 3] [error] d\n");
}

TEST_F(JournalLogs, begin_each_line_of_a_traceback_with_the_priority) {
  log(LogFormat::text).error("GET /: failed\nTraceback:\n<6>  forged");
  EXPECT_EQ(text(), "<3>[worker 3] [error] GET /: failed\n<3>Traceback:\n<3><6>  forged\n");
}

TEST_F(JournalLogs, in_json_are_the_priority_and_then_the_record) {
  log(LogFormat::json).warning("a\nb");
  ASSERT_EQ(text().substr(0, 3), "<4>");
  const auto record = nlohmann::json::parse(text().substr(3));
  EXPECT_EQ(record["message"], "a\nb");
  EXPECT_EQ(record["pid"], ::getpid());
}

TEST_F(JournalLogs, are_those_of_that_descriptor_alone) {
  Pipe other;
  Log(other.in.get(), LogFormat::text, LogLevel::info, "worker 3").info("to a file of one's own");
  EXPECT_TRUE(std::regex_match(other.read(), std::regex(R"(\d{4}-(.|\n)*)")));
  EXPECT_EQ(journal_prefix(other.in.get(), LogLevel::error), "");
  EXPECT_EQ(journal_prefix(file_.get(), LogLevel::error), "<3>");
}

TEST_F(Logs, never_wait_for_a_socket_and_write_a_record_in_one_piece) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd in(ends[0]);
  const UniqueFd out(ends[1]);
  const Log to(in.get(), LogFormat::text, LogLevel::info, "worker 3");
  const std::string traceback(20'000, 'x');
  for (int i = 0; i < 100; ++i) to.info("{}", traceback);  // more than the socket takes
  std::string text(4 << 20, '\0');
  std::size_t length = 0;
  for (ssize_t n; (n = ::recv(out.get(), text.data() + length, 65536, MSG_DONTWAIT)) > 0;) {
    length += static_cast<std::size_t>(n);
  }
  EXPECT_GT(length, traceback.size());
  EXPECT_LT(length, 100 * traceback.size());
  EXPECT_EQ(text[length - 1], '\n');  // what came is whole
}

}  // namespace
}  // namespace mgr
