#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace mgr::load {

// Where connections go.
struct Target {
  sockaddr_storage address{};
  socklen_t length = 0;
  std::string host;  // as the Host field names it

  // "host:port" or "[v6]:port"; names are resolved once.
  static Result<Target> tcp(const std::string& text);
  // A path, or "@name" for an abstract socket.
  static Result<Target> unix_socket(const std::string& path);
};

enum class Mode {
  fresh,  // a new connection for each request, which says `Connection: close`
  keep,   // connections kept alive, with pipelining up to `depth`
};

struct Options {
  Target target;
  Mode mode = Mode::fresh;
  int connections = 32;  // kept alive; in mode `fresh` the most at once in a closed loop
  int depth = 1;
  double rate = 0;  // requests a second, open loop; 0: closed loop, as fast as answers come
  double seconds = 0;
  std::uint64_t count = 0;  // 0: until `seconds` are over, or SIGTERM
  std::chrono::milliseconds timeout{10000};
  std::string path = "/echo/{id}";
  std::optional<std::size_t> body_size;  // POST with so many bytes
  std::vector<std::string> headers;      // "Name: value"
  std::string expect_body_prefix;
  bool verify_id = false;
  std::string report;  // a file; empty: stdout
  std::size_t details = 50;
};

// Exits with CLI11's own message and status 2 on a wrong command line.
Options parse_options(int argc, char** argv);

}  // namespace mgr::load
