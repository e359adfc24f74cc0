#include "common/server/socket.h"

#include <poll.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "common/base/check.h"

namespace mgr::server {
namespace {

constexpr std::size_t kKeepCapacity = 16 * 1024;  // of an empty buffer
// Copying so many bytes costs less than having the kernel gather them (a twentieth of a request).
constexpr std::size_t kMostCopied = 2048;
// How much of a file is sent before other connections have their turn.
constexpr std::uint64_t kFileTurn = 1024 * 1024;

std::size_t size_of(std::span<const iovec> parts) {
  std::size_t size = 0;
  for (const iovec& part : parts) size += part.iov_len;
  return size;
}

// As sendmsg().
ssize_t send_all(int fd, std::span<iovec> parts, int flags) {
  if (parts.size() == 1) return ::send(fd, parts[0].iov_base, parts[0].iov_len, flags);
  if (size_of(parts) > kMostCopied) {
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    return ::sendmsg(fd, &message, flags);
  }
  char together[kMostCopied];  // not initialized
  char* end = together;
  for (const iovec& part : parts) {
    std::memcpy(end, part.iov_base, part.iov_len);
    end += part.iov_len;
  }
  return ::send(fd, together, static_cast<std::size_t>(end - together), flags);
}

short poll_now(int fd, short events) {
  pollfd poll{fd, events, 0};
  return ::poll(&poll, 1, 0) > 0 ? poll.revents : short{0};
}

// sendfile() has no MSG_NOSIGNAL.
class WithoutSigpipe {
 public:
  WithoutSigpipe() {
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe_, &before_);
  }
  ~WithoutSigpipe() {
    const int kept_errno = errno;
    const timespec now{};
    if (raised_ && !sigismember(&before_, SIGPIPE)) sigtimedwait(&sigpipe_, nullptr, &now);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    errno = kept_errno;
  }
  WithoutSigpipe(const WithoutSigpipe&) = delete;
  void raised() { raised_ = true; }

 private:
  sigset_t sigpipe_;
  sigset_t before_;
  bool raised_ = false;
};

ssize_t send_by_kernel(int to, int file, off_t offset, std::size_t count) {
  WithoutSigpipe guard;
  ssize_t n;
  do {
    n = ::sendfile(to, file, &offset, count);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EPIPE) guard.raised();
  return n;
}

// For files that sendfile() does not take. As it: 0 is the file's end.
ssize_t send_by_copy(int to, int file, off_t offset, std::size_t count) {
  std::array<char, 16 * 1024> buffer;
  const ssize_t got = ::pread(file, buffer.data(), std::min(count, buffer.size()), offset);
  if (got <= 0) return got;
  ssize_t n;
  do {
    n = ::send(to, buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  return n;
}

bool is_loss(int error) {
  return error == EPIPE || error == ECONNRESET || error == ETIMEDOUT || error == ENOTCONN ||
         error == EHOSTUNREACH || error == ENETUNREACH || error == ENETDOWN;
}

}  // namespace

Socket::Socket(EventLoop& loop, UniqueFd fd, Kind kind, SocketOwner& owner)
    : owner_(owner), fd_(std::move(fd)), kind_(kind) {
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
  // A closed direction stays readable: watch for errors alone until reading goes on.
  if (reading_ == Reading::ended) {
    watch();
  } else if (events & FdWatcher::kReadable) {
    owner_.on_readable();
  } else if ((events & FdWatcher::kDisconnect) && reading_ == Reading::paused) {
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
  if (has_output()) events |= FdWatcher::kWritable;
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
  // A Unix peer that closed is gone altogether; one that only shut down its output is not.
  const bool gone = kind_ == Kind::local && (poll_now(fd_.get(), 0) & (POLLERR | POLLHUP));
  return gone ? Status::lost : Status::eof;
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

Socket::Status Socket::send_parts(std::span<iovec> parts, std::size_t& sent, int flags) {
  ssize_t n;
  do {
    n = send_all(fd_.get(), parts, MSG_NOSIGNAL | flags);
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
  CHECK(open() && file_.left == 0);
  std::size_t sent = 0;
  if (unsent() == 0) {
    const Status status = send_parts(parts, sent);
    if (status == Status::lost) return status;
    if (sent == size_of(parts)) return Status::ok;
  }
  keep(parts, sent);
  watch();
  return Status::again;
}

Socket::Status Socket::write_file(std::span<iovec> parts, UniqueFd file, std::uint64_t offset,
                                  std::uint64_t count) {
  CHECK(open() && file_.left == 0 && count > 0);
  std::size_t sent = 0;
  if (unsent() == 0 && send_parts(parts, sent, MSG_MORE) == Status::lost) return Status::lost;
  keep(parts, sent);
  file_ = File{std::move(file), offset, count};
  return flush();
}

Socket::Status Socket::flush() {
  Status status = send_kept();
  if (status == Status::ok && file_.left > 0) status = send_some_of_file();
  if (status == Status::ok || status == Status::again) watch();
  return status;
}

Socket::Status Socket::send_kept() {
  while (unsent() > 0) {
    iovec part{kept_.data() + kept_sent_, unsent()};
    std::size_t sent = 0;
    const Status status = send_parts({&part, 1}, sent);
    if (status != Status::ok) return status;
    kept_sent_ += sent;
  }
  kept_sent_ = 0;
  kept_.clear();
  if (kept_.capacity() > kKeepCapacity) kept_.shrink_to_fit();
  return Status::ok;
}

Socket::Status Socket::send_some_of_file() {
  const auto count = static_cast<std::size_t>(std::min(file_.left, kFileTurn));
  const auto offset = static_cast<off_t>(file_.offset);
  errno = 0;
  ssize_t n = send_by_kernel(fd_.get(), file_.fd.get(), offset, count);
  if (n < 0 && (errno == EINVAL || errno == ENOSYS || errno == EOVERFLOW)) {
    n = send_by_copy(fd_.get(), file_.fd.get(), offset, count);
  }
  if (n < 0 && (errno == EAGAIN || errno == ENOBUFS)) return Status::again;
  if (n < 0 && is_loss(errno)) return Status::lost;
  if (n <= 0) {
    if (n == 0) errno = 0;
    const int error = errno;
    drop_file();
    errno = error;
    return Status::bad_file;
  }
  sent_bytes_ += static_cast<std::size_t>(n);
  file_.offset += static_cast<std::uint64_t>(n);
  file_.left -= static_cast<std::uint64_t>(n);
  if (file_.left > 0) return Status::again;
  drop_file();
  return Status::ok;
}

void Socket::drop_file() {
  file_ = File{};
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
  drop_file();
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
