#include "common/base/log.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/details/log_msg.h>
#include <spdlog/details/os.h>
#include <spdlog/pattern_formatter.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <nlohmann/json.hpp>

namespace mgr {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

constexpr std::string_view journal_priority(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return "<7>";
    case LogLevel::info:
      return "<6>";
    case LogLevel::warning:
      return "<4>";
    case LogLevel::error:
      return "<3>";
  }
  return "<3>";
}

bool is_journal(int fd) {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat info {};
  if (!stream || ::fstat(fd, &info) != 0) return false;
  return stream == fmt::format("{}:{}", info.st_dev, info.st_ino);
}

// The same, with the prefix before each line; the journal makes an entry of each.
std::string prefixed(std::string_view prefix, std::string_view lines) {
  std::string text;
  while (!lines.empty()) {
    const std::size_t end = std::min(lines.find('\n'), lines.size() - 1) + 1;
    text.append(prefix).append(lines.substr(0, end));
    lines.remove_prefix(end);
  }
  return text;
}

// In a text, which terminals show: all that moves a cursor but ends of lines and tabs. An
// exception's message may hold what a client has sent.
bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f;
}

void escape_controls(std::string& text) {
  if (std::none_of(text.begin(), text.end(), is_control)) return;
  std::string escaped;
  for (const char c : text) {
    if (is_control(c)) {
      fmt::format_to(std::back_inserter(escaped), "\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      escaped += c;
    }
  }
  text = std::move(escaped);
}

}  // namespace

std::string_view to_string(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warning:
      return "warning";
    case LogLevel::error:
      return "error";
  }
  return "error";
}

std::string_view journal_prefix(int fd, LogLevel level) {
  return is_journal(fd) ? journal_priority(level) : "";
}

struct Log::Impl {
  std::mutex mutex{};
  int fd;
  LogFormat format;
  std::atomic<LogLevel> level;  // any thread asks
  std::string who;
  bool journal = is_journal(fd);
  // Local time with offset: "2026-11-22 01:40:00.123 +00:00".
  spdlog::pattern_formatter time{"%Y-%m-%d %H:%M:%S.%e %z", spdlog::pattern_time_type::local, ""};
  std::uint64_t dropped = 0;  // since the last one that went through
  std::uint64_t dropped_ever = 0;

  std::string render(LogLevel at, std::string_view message) {
    std::string lines = arranged(at, message);
    if (format == LogFormat::text) escape_controls(lines);
    return lines;
  }

  std::string arranged(LogLevel at, std::string_view message) {
    if (!journal) return record(at, message);
    if (format == LogFormat::json) return prefixed(journal_priority(at), record(at, message));
    return prefixed(journal_priority(at),
                    fmt::format("[{}] [{}] {}\n", who, to_string(at), message));
  }

  std::string record(LogLevel at, std::string_view message) {
    spdlog::memory_buf_t stamp;
    const spdlog::details::log_msg record(spdlog::source_loc{}, "", spdlog_level(at), "");
    time.format(record, stamp);
    const std::string_view when(stamp.data(), stamp.size());
    switch (format) {
      case LogFormat::text:
        return fmt::format("{} [{}] [{}] [{}] {}\n", when, ::getpid(), who, to_string(at), message);
      case LogFormat::json: {
        nlohmann::ordered_json line;
        line["time"] = when;
        line["level"] = to_string(at);
        line["pid"] = ::getpid();
        line["who"] = who;
        line["message"] = message;
        return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
      }
    }
    return {};
  }

  // True when the whole line went out, or at least its beginning (the rest would not fit).
  bool put(std::string_view line) const {
    pollfd poll{fd, POLLOUT, 0};
    while (!line.empty()) {
      const int ready = ::poll(&poll, 1, 0);
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0 || !(poll.revents & POLLOUT)) return false;
      const ssize_t n = put_some(line);
      if (n < 0) {
        if (errno == EINTR) continue;
        return false;
      }
      line.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  void drop() {
    ++dropped;
    ++dropped_ever;
  }

  ssize_t put_some(std::string_view line) const {
    struct stat info {};
    const bool known = ::fstat(fd, &info) == 0;
    // One message of a socket stays in one piece among those of other processes.
    if (known && S_ISSOCK(info.st_mode)) {
      return ::send(fd, line.data(), std::min(line.size(), kOneMessage),
                    MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    // A pipe that polls writable takes PIPE_BUF bytes at once without waiting.
    const bool pipe = known && !S_ISREG(info.st_mode);
    return ::write(fd, line.data(), pipe ? std::min(line.size(), kAtOnce) : line.size());
  }

  static constexpr std::size_t kOneMessage = 32 * 1024;
  static constexpr std::size_t kAtOnce = 4096;  // PIPE_BUF on Linux
};

Log::Log(int fd, LogFormat format, LogLevel level, std::string who)
    : impl_(new Impl{.fd = fd, .format = format, .level = level, .who = std::move(who)}) {}
Log::~Log() = default;
Log::Log(Log&&) noexcept = default;
Log& Log::operator=(Log&&) noexcept = default;

void Log::set_who(std::string who) {
  impl_->who = std::move(who);
}
void Log::set_level(LogLevel level) {
  impl_->level = level;
}
bool Log::enabled(LogLevel level) const {
  return level >= impl_->level;
}
std::uint64_t Log::dropped() const {
  return impl_->dropped_ever;
}

void Log::write(LogLevel level, std::string_view message) const {
  if (!enabled(level)) return;
  const std::lock_guard lock(impl_->mutex);
  if (impl_->dropped > 0) {
    const std::string lost =
        impl_->render(LogLevel::warning, fmt::format("{} log records were lost before this one: "
                                                     "the log did not take them",
                                                     impl_->dropped));
    if (!impl_->put(lost)) {
      impl_->drop();
      return;
    }
    impl_->dropped = 0;
  }
  if (!impl_->put(impl_->render(level, message))) impl_->drop();
}

}  // namespace mgr
