#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

#include "common/base/log.h"

namespace mgr::server {

struct AccessRecord {
  std::string_view client;  // address; empty: "-"
  std::string_view request_line;
  int status = 0;  // 0: the connection ended before there was one, written "-"
  std::uint64_t body_bytes = 0;
  std::string_view referer;
  std::string_view user_agent;
};

// Apache's combined format, one write() a line to a borrowed descriptor. Never waits: a line that
// is not taken at once is dropped and counted, and the log says how many once lines go through
// again. What comes from clients is escaped: control characters and bytes above ASCII as \xHH,
// quote and backslash with a backslash.
class AccessLog {
 public:
  // -1: off.
  AccessLog(int fd, const Log& log);
  bool on() const { return fd_ >= 0; }
  void write(const AccessRecord& record);

 private:
  bool put() const;
  void append_escaped(std::string_view text);
  void append_time();

  int fd_;
  bool always_ready_ = false;  // a regular file
  const Log& log_;
  std::string line_;
  std::time_t second_ = -1;
  std::string time_;
  std::uint64_t dropped_ = 0;
};

}  // namespace mgr::server
