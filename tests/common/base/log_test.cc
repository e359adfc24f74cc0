#include "common/base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

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

}  // namespace
}  // namespace mgr
