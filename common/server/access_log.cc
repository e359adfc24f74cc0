#include "common/server/access_log.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <iterator>

namespace mgr::server {
namespace {

// PIPE_BUF: a pipe that polls writable takes so much at once, in one piece.
constexpr std::size_t kLongestLine = 4096;

std::string format_time(std::time_t now) {
  static constexpr std::array kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm local{};
  localtime_r(&now, &local);
  const long minutes = local.tm_gmtoff / 60;
  return fmt::format("{:02}/{}/{}:{:02}:{:02}:{:02} {}{:02}{:02}", local.tm_mday,
                     kMonths[static_cast<std::size_t>(local.tm_mon)], local.tm_year + 1900,
                     local.tm_hour, local.tm_min, local.tm_sec, minutes < 0 ? '-' : '+',
                     std::abs(minutes) / 60, std::abs(minutes) % 60);
}

}  // namespace

AccessLog::AccessLog(int fd, const Log& log) : fd_(fd), log_(log) {
  struct stat info {};
  always_ready_ = fd >= 0 && ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

void AccessLog::append_escaped(std::string_view text) {
  if (text.empty()) line_.push_back('-');
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      line_.push_back('\\');
      line_.push_back(c);
    } else if (byte < 0x20 || byte >= 0x7f) {
      fmt::format_to(std::back_inserter(line_), "\\x{:02x}", byte);
    } else {
      line_.push_back(c);
    }
  }
}

void AccessLog::append_time() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (now.tv_sec != second_) {
    second_ = now.tv_sec;
    time_ = format_time(now.tv_sec);
  }
  line_.append(time_);
}

void AccessLog::write(const AccessRecord& record) {
  if (!on()) return;
  line_.clear();
  append_escaped(record.client);
  line_.append(" - - [");
  append_time();
  line_.append("] \"");
  append_escaped(record.request_line);
  line_.append("\" ");
  const auto out = std::back_inserter(line_);
  if (record.status == 0) {
    line_.push_back('-');
  } else {
    fmt::format_to(out, "{}", record.status);
  }
  if (record.body_bytes == 0) {
    line_.append(" -");
  } else {
    fmt::format_to(out, " {}", record.body_bytes);
  }
  line_.append(" \"");
  append_escaped(record.referer);
  line_.append("\" \"");
  append_escaped(record.user_agent);
  line_.append("\"\n");
  if (line_.size() > kLongestLine) {
    line_.resize(kLongestLine - 1);
    line_.push_back('\n');
  }
  if (!put()) {
    ++dropped_;
  } else if (dropped_ > 0) {
    log_.warning("{} lines of the access log were lost: its descriptor did not take them",
                 dropped_);
    dropped_ = 0;
  }
}

bool AccessLog::put() const {
  if (!always_ready_) {
    pollfd poll{fd_, POLLOUT, 0};
    if (::poll(&poll, 1, 0) <= 0 || !(poll.revents & POLLOUT)) return false;
  }
  ssize_t n;
  do {
    n = ::write(fd_, line_.data(), line_.size());
  } while (n < 0 && errno == EINTR);
  return n > 0;
}

}  // namespace mgr::server
