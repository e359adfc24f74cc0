#include "tests/tools/load/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace mgr::load {
namespace {

int port_of(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port);
  if (address.ss_family == AF_INET6)
    return ntohs(reinterpret_cast<sockaddr_in6&>(address).sin6_port);
  return 0;
}

}  // namespace

int Connection::open(const Target& target) {
  fd_.reset(socket(target.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd_) return errno;
  if (target.address.ss_family != AF_UNIX) {
    const int on = 1;
    setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  const auto* address = reinterpret_cast<const sockaddr*>(&target.address);
  const int connected = connect(fd_.get(), address, target.length);
  if (connected != 0 && errno != EINPROGRESS) {
    const int error = errno;
    fd_.reset();
    return error;
  }
  state_ = connected == 0 ? State::open : State::connecting;
  local_port_ = port_of(fd_.get());
  epoll_event event{};
  event.events = watched_ = connected == 0 ? EPOLLIN : EPOLLIN | EPOLLOUT;
  event.data.ptr = this;
  return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd_.get(), &event) == 0 ? 0 : errno;
}

void Connection::send(Outstanding request, std::string_view bytes) {
  request.on_used_idle = outstanding_.empty() && responses_ > 0;
  outstanding_.push_back(request);
  output_.append(bytes);
  if (state_ == State::open) flush();
}

bool Connection::still_open() {
  char byte;
  const ssize_t got = recv(fd_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return true;
  read_input();
  return state_ == State::open;
}

void Connection::on_event(std::uint32_t events) {
  if (state_ == State::closed) return;
  if (state_ == State::connecting) {
    on_connected();
    return;
  }
  if (events & EPOLLOUT) flush();
  if (state_ != State::closed && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) read_input();
}

void Connection::on_connected() {
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error == 0) {
    state_ = State::open;
    flush();
    return;
  }
  const Loss kind = error == ECONNREFUSED ? Loss::refused : Loss::connect_error;
  lose_all(kind, kind, std::strerror(error));
  close();
}

void Connection::flush() {
  while (!output_.empty()) {
    const ssize_t sent = ::send(fd_.get(), output_.data(), output_.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      output_.erase(0, static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      break;
    } else {
      // A response, or the end, may still stand in the receive queue: that decides.
      output_.clear();
      read_input();
      if (state_ == State::closed) return;
    }
  }
  watch(output_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void Connection::read_input() {
  static std::array<char, 256 * 1024> buffer;
  while (state_ != State::closed) {
    const ssize_t got = recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      on_end(got < 0 ? errno : 0);
      return;
    }
    consume(std::string_view(buffer.data(), static_cast<std::size_t>(got)));
    if (static_cast<std::size_t>(got) < buffer.size()) return;
  }
}

void Connection::consume(std::string_view data) {
  while (!data.empty() && state_ != State::closed) {
    if (outstanding_.empty() || state_ == State::closing) {
      owner_.on_stray_bytes(*this);
      close();
      return;
    }
    data.remove_prefix(parser_.feed(data));
    if (parser_.malformed()) {
      lose_all(Loss::bad_response, Loss::eof_before_response, "malformed response");
      close();
    } else if (parser_.complete()) {
      finish_response();
    }
  }
}

void Connection::finish_response() {
  const Outstanding request = outstanding_.front();
  outstanding_.pop_front();
  ++responses_;
  owner_.on_response(request, parser_, *this);
  const bool closes = parser_.closes();
  parser_.reset();
  if (!closes) return;
  state_ = State::closing;
  closing_since_ = Clock::now();
  output_.clear();
  for (const Outstanding& behind : std::exchange(outstanding_, {})) owner_.on_resend(behind);
}

void Connection::on_end(int error) {
  if (error == 0 && parser_.finish_at_eof()) finish_response();
  if (outstanding_.empty()) {
    close(state_ == State::closing ? End::by_response : End::idle);
    return;
  }
  const Loss unanswered = error == 0 ? Loss::eof_before_response : Loss::reset;
  const std::string text = error == 0 ? "end of the connection" : std::strerror(error);
  if (outstanding_.front().on_used_idle && parser_.bytes_seen() == 0) {
    lose_all(Loss::raced, Loss::raced, text);
  } else if (error == 0 && parser_.head_complete()) {
    lose_all(Loss::truncated, unanswered, text);
  } else {
    lose_all(unanswered, unanswered, text);
  }
  close();
}

void Connection::lose_all(Loss front, Loss others, const std::string& error) {
  std::uint64_t bytes_seen = parser_.bytes_seen();
  Loss kind = front;
  for (const Outstanding& request : std::exchange(outstanding_, {})) {
    owner_.on_loss(request, kind, bytes_seen, error, *this);
    kind = others;
    bytes_seen = 0;
  }
}

void Connection::expire(Clock::time_point now, Clock::duration timeout) {
  if (outstanding_.empty() || now - outstanding_.front().due < timeout) return;
  const std::string text =
      state_ == State::connecting ? "while connecting" : "no complete response";
  std::uint64_t bytes_seen = parser_.bytes_seen();
  for (const Outstanding& request : std::exchange(outstanding_, {})) {
    if (now - request.due >= timeout) {
      owner_.on_loss(request, Loss::timed_out, bytes_seen, text, *this);
    } else {
      owner_.on_resend(request);
    }
    bytes_seen = 0;
  }
  close();
}

void Connection::close(End end) {
  state_ = State::closed;
  fd_.reset();
  owner_.on_closed(*this, end);
}

void Connection::watch(std::uint32_t events) {
  if (events == watched_) return;
  epoll_event event{};
  event.events = watched_ = events;
  event.data.ptr = this;
  epoll_ctl(epoll_, EPOLL_CTL_MOD, fd_.get(), &event);
}

}  // namespace mgr::load
