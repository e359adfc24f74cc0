#include "common/server/socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "common/base/check.h"

namespace mgr::server {
namespace {

constexpr std::size_t kKeepCapacity = 16 * 1024;  // of an empty buffer

short poll_now(int fd, short events) {
  pollfd poll{fd, events, 0};
  return ::poll(&poll, 1, 0) > 0 ? poll.revents : short{0};
}

}  // namespace

Socket::Socket(EventLoop& loop, UniqueFd fd, SocketOwner& owner)
    : owner_(owner), fd_(std::move(fd)) {
  watcher_.emplace(loop, fd_.get(), [this](int status, int events) { on_event(status, events); });
  watch();
}

void Socket::on_event(int status, int events) {
  if (status < 0) return on_error_event();
  if (events & FdWatcher::kErrors) return on_error_event();
  if (events & FdWatcher::kWritable) {
    owner_.on_writable();
    if (!open()) return;
  }
  if (events & FdWatcher::kReadable) {
    owner_.on_readable();
  } else if ((events & FdWatcher::kDisconnect) && reading_ == Reading::paused) {
    // A closed direction stays readable: watch for errors alone until reading goes on.
    reading_ = Reading::ended;
    watch();
  }
}

// libuv has stopped the watcher on EPOLLERR, or only an error was waited for.
void Socket::on_error_event() {
  watched_ = 0;
  if (poll_now(fd_.get(), 0) & (POLLERR | POLLHUP | POLLNVAL)) return owner_.on_lost();
  // Urgent data, which nobody wants: give up watching for errors until something is written.
  watcher_->stop();
}

void Socket::watch() {
  int events = 0;
  switch (reading_) {
    case Reading::on:
      events = FdWatcher::kReadable;
      break;
    case Reading::paused:
      events = FdWatcher::kDisconnect;
      break;
    case Reading::ended:
      events = FdWatcher::kErrors;
      break;
  }
  if (unsent() > 0) events |= FdWatcher::kWritable;
  if (events == watched_) return;
  watched_ = events;
  watcher_->start(events);
}

Socket::Status Socket::read(std::span<char> into, std::size_t& received) {
  ssize_t n;
  do {
    n = ::recv(fd_.get(), into.data(), into.size(), 0);
  } while (n < 0 && errno == EINTR);
  if (n > 0) {
    received = static_cast<std::size_t>(n);
    return Status::ok;
  }
  if (n < 0) return errno == EAGAIN ? Status::again : Status::lost;
  reading_ = Reading::ended;
  watch();
  // A Unix peer that closed is gone altogether; one that only shut down its output is not.
  return poll_now(fd_.get(), 0) & (POLLERR | POLLHUP) ? Status::lost : Status::eof;
}

bool Socket::input_waiting() const {
  return (poll_now(fd_.get(), POLLIN) & POLLIN) != 0;
}

void Socket::pause_reading() {
  if (reading_ != Reading::on) return;
  reading_ = Reading::paused;
  watch();
}

void Socket::resume_reading() {
  if (reading_ == Reading::on) return;
  reading_ = Reading::on;
  watch();
}

Socket::Status Socket::send_parts(std::span<iovec> parts, std::size_t& sent) {
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  ssize_t n;
  do {
    n = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    sent = 0;
    return errno == EAGAIN || errno == ENOBUFS ? Status::again : Status::lost;
  }
  sent = static_cast<std::size_t>(n);
  sent_bytes_ += sent;
  return Status::ok;
}

void Socket::keep(std::span<iovec> parts, std::size_t skip) {
  if (kept_sent_ > 0) {
    kept_.erase(0, kept_sent_);
    kept_sent_ = 0;
  }
  for (const iovec& part : parts) {
    const std::size_t passed = std::min(skip, part.iov_len);
    skip -= passed;
    kept_.append(static_cast<const char*>(part.iov_base) + passed, part.iov_len - passed);
  }
}

Socket::Status Socket::write(std::span<iovec> parts) {
  CHECK(open());
  std::size_t sent = 0;
  if (unsent() == 0) {
    const Status status = send_parts(parts, sent);
    if (status == Status::lost) return status;
    std::size_t total = 0;
    for (const iovec& part : parts) total += part.iov_len;
    if (sent == total) return Status::ok;
  }
  keep(parts, sent);
  watch();
  return Status::again;
}

Socket::Status Socket::flush() {
  while (unsent() > 0) {
    iovec part{kept_.data() + kept_sent_, unsent()};
    std::size_t sent = 0;
    const Status status = send_parts({&part, 1}, sent);
    if (status != Status::ok) {
      watch();
      return status;
    }
    kept_sent_ += sent;
  }
  kept_sent_ = 0;
  kept_.clear();
  if (kept_.capacity() > kKeepCapacity) kept_.shrink_to_fit();
  watch();
  return Status::ok;
}

void Socket::finish_output() {
  ::shutdown(fd_.get(), SHUT_WR);
}

void Socket::close() {
  // libuv must forget the number before it can be given to another connection.
  watcher_.reset();
  fd_.reset();
  kept_ = std::string();
  kept_sent_ = 0;
}

void Socket::reset() {
  const linger at_once{1, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close();
}

void Socket::close_in_forked_child() noexcept {
  ::close(fd_.get());
}

}  // namespace mgr::server
