#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/result.h"

namespace mgr {

enum class LogLevel { debug, info, warning, error };
enum class LogFormat { text, json };

std::string_view to_string(LogLevel level);

// What tells the journal the priority of a line: "<3>" (sd-daemon(3)). Empty where `fd` is not the
// stream that the service manager made for this process ($JOURNAL_STREAM).
std::string_view journal_prefix(int fd, LogLevel level);

// A stream of records: one record is one write() to one descriptor, which is borrowed.
// Where that is the journal's stream, each line begins with its priority, and a text record leaves
// out time and process, which the journal has by itself.
// The write never waits: a record that the descriptor does not take at once is dropped and counted,
// and the next one that goes through says how many were lost.
// `who` names the writer in every record: "supervisor", "mold gen 3", "worker 0".
// Any thread may write.
// spdlog formats the records; it is included by log.cc alone.
class Log {
 public:
  Log(int fd, LogFormat format, LogLevel level, std::string who);
  ~Log();
  Log(Log&&) noexcept;
  Log& operator=(Log&&) noexcept;

  // After a fork, or when a worker learns its slot.
  void set_who(std::string who);
  void set_level(LogLevel level);
  bool enabled(LogLevel level) const;
  // Records that the descriptor did not take, since the beginning.
  std::uint64_t dropped() const;

  // One record. A message of several lines stays one record (text: as it is; json: escaped). Other
  // control characters are escaped, so that no message drives a terminal.
  void write(LogLevel level, std::string_view message) const;

  template <typename... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) const {
    if (enabled(LogLevel::debug))
      write(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) const {
    if (enabled(LogLevel::info))
      write(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mgr
