#include "tests/tools/load/options.h"

#include <netdb.h>
#include <sys/un.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <iostream>
#include <map>

namespace mgr::load {

Result<Target> Target::tcp(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) return Error("'" + text + "': host:port expected");
  std::string host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), text.c_str() + colon + 1, &hints, &found);
  if (error != 0) return Error(text + ": " + gai_strerror(error));
  Target target;
  std::memcpy(&target.address, found->ai_addr, found->ai_addrlen);
  target.length = found->ai_addrlen;
  target.host = text;
  freeaddrinfo(found);
  return target;
}

Result<Target> Target::unix_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return Error("'" + path + "': too long or too short for a socket's path");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  Target target;
  target.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  if (path[0] == '@') {
    address.sun_path[0] = '\0';
  } else {
    ++target.length;
  }
  std::memcpy(&target.address, &address, sizeof(address));
  target.host = "localhost";
  return target;
}

namespace {

[[noreturn]] void fail(const std::string& message) {
  std::cerr << "load_client: " << message << "\n";
  std::exit(2);
}

Target resolve(const std::string& connect, const std::string& path) {
  if (connect.empty() == path.empty()) fail("one of --connect and --unix is needed");
  Result<Target> target = path.empty() ? Target::tcp(connect) : Target::unix_socket(path);
  if (!target) fail(target.error().message());
  return std::move(target).value();
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  std::string connect;
  std::string path;
  double timeout = 10;
  CLI::App app{
      "Sends requests and counts every one that is lost; prints one line of JSON. "
      "Exit status 0: none was lost."};
  const std::map<std::string, Mode> modes{{"new", Mode::fresh}, {"keep", Mode::keep}};
  app.add_option("--connect", connect, "host:port or [v6]:port");
  app.add_option("--unix", path, "path of a Unix socket, or @name");
  app.add_option("--mode", options.mode, "new: a connection for each request; keep: kept alive")
      ->transform(CLI::Transformer(modes));
  app.add_option("--connections", options.connections, "connections at once")
      ->check(CLI::Range(1, 16384));
  app.add_option("--depth", options.depth, "requests outstanding on one connection")
      ->check(CLI::Range(1, 1024));
  app.add_option("--rate", options.rate, "requests per second (open loop); 0: closed loop");
  app.add_option("--seconds", options.seconds, "stop sending after so long");
  app.add_option("--count", options.count, "stop sending after so many requests");
  app.add_option("--timeout", timeout, "seconds that a response may take from when it was due");
  app.add_option("--path", options.path, "path; {id} becomes the request's identity");
  app.add_option("--body-size", options.body_size, "POST with so many bytes");
  app.add_option("--header", options.headers, "a field, 'Name: value'")->allow_extra_args(false);
  app.add_option("--expect-body-prefix", options.expect_body_prefix, "what a body must begin with");
  app.add_flag("--verify-id", options.verify_id, "a body must contain the request's identity");
  app.add_option("--report", options.report, "file for the JSON instead of stdout");
  app.add_option("--details", options.details, "most losses listed one by one");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  options.timeout = std::chrono::milliseconds(static_cast<std::int64_t>(timeout * 1000));
  options.target = resolve(connect, path);
  return options;
}

}  // namespace mgr::load
