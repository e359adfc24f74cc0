#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/base/check.h"
#include "common/base/unique_fd.h"
#include "common/net/address.h"

namespace mgr::fakes {

// A control socket that answers each connection's request with the bytes that `answer` returns for
// it, then closes. A thread of its own; the destructor ends it.
class ControlServer {
 public:
  using Answer = std::function<std::string(const std::string& request)>;

  ControlServer(const std::string& address, Answer answer) : answer_(std::move(answer)) {
    const net::UnixAddress target = *net::make_unix_address(address);
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK(::bind(listener_.get(), target.get(), target.length) == 0);
    CHECK(::listen(listener_.get(), 16) == 0);
    int ends[2];
    CHECK(::pipe(ends) == 0);
    stop_reader_.reset(ends[0]);
    stop_writer_.reset(ends[1]);
    thread_ = std::thread([this] { serve(); });
  }
  ~ControlServer() {
    stop_writer_.reset();
    thread_.join();
  }
  ControlServer(const ControlServer&) = delete;

  std::vector<std::string> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    while (true) {
      pollfd polls[] = {{listener_.get(), POLLIN, 0}, {stop_reader_.get(), POLLIN, 0}};
      ::poll(polls, 2, -1);
      if (polls[1].revents) return;
      const UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      answer(connection.get());
    }
  }

  void answer(int connection) {
    const std::string request = read_request(connection);
    if (request.empty()) return;  // somebody who only asked whether we live
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    const std::string bytes = answer_(request);
    CHECK(::send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(bytes.size()));
  }

  // Up to the end of the head, and the body that Content-Length tells of.
  static std::string read_request(int connection) {
    std::string text;
    char buffer[4096];
    while (!complete(text)) {
      const ssize_t n = ::recv(connection, buffer, sizeof buffer, 0);
      if (n <= 0) return "";
      text.append(buffer, static_cast<std::size_t>(n));
    }
    return text;
  }

  static bool complete(const std::string& text) {
    const std::size_t head = text.find("\r\n\r\n");
    if (head == std::string::npos) return false;
    const std::size_t length = text.find("Content-Length: ");
    const std::size_t body = length == std::string::npos ? 0 : std::stoul(text.substr(length + 16));
    return text.size() >= head + 4 + body;
  }

  Answer answer_;
  UniqueFd listener_, stop_reader_, stop_writer_;
  std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

// A whole response.
inline std::string http(int status, const std::string& type, const std::string& body) {
  return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace mgr::fakes
