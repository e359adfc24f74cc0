#include "common/base/log.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/details/log_msg.h>
#include <spdlog/details/os.h>
#include <spdlog/pattern_formatter.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
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

constexpr const char* level_name(LogLevel level) {
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

}  // namespace

struct Log::Impl {
  int fd;
  LogFormat format;
  LogLevel level;
  std::string who;
  // Local time with offset: "2026-11-22 01:40:00.123 +00:00".
  spdlog::pattern_formatter time{"%Y-%m-%d %H:%M:%S.%e %z", spdlog::pattern_time_type::local, ""};
  std::uint64_t dropped = 0;  // since the last one that went through
  std::uint64_t dropped_ever = 0;

  std::string render(LogLevel at, std::string_view message) {
    spdlog::memory_buf_t stamp;
    const spdlog::details::log_msg record(spdlog::source_loc{}, "", spdlog_level(at), "");
    time.format(record, stamp);
    const std::string_view when(stamp.data(), stamp.size());
    switch (format) {
      case LogFormat::text:
        return fmt::format("{} [{}] [{}] [{}] {}\n", when, ::getpid(), who, level_name(at),
                           message);
      case LogFormat::json: {
        nlohmann::ordered_json line;
        line["time"] = when;
        line["level"] = level_name(at);
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
      // A pipe that polls writable takes PIPE_BUF bytes at once without waiting.
      const std::size_t part = line.size() > kAtOnce && is_pipe() ? kAtOnce : line.size();
      const ssize_t n = ::write(fd, line.data(), part);
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

  bool is_pipe() const {
    struct stat info {};
    return ::fstat(fd, &info) == 0 && !S_ISREG(info.st_mode);
  }

  static constexpr std::size_t kAtOnce = 4096;  // PIPE_BUF on Linux
};

Log::Log(int fd, LogFormat format, LogLevel level, std::string who)
    : impl_(new Impl{fd, format, level, std::move(who)}) {}
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
