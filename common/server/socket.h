#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "common/base/unique_fd.h"
#include "common/loop/event_loop.h"

namespace mgr::server {

class SocketOwner {
 public:
  virtual void on_readable() noexcept = 0;
  virtual void on_writable() noexcept = 0;
  // Both directions are dead (a reset, or a Unix peer that closed).
  virtual void on_lost() noexcept = 0;

 protected:
  ~SocketOwner() = default;
};

// A connected stream socket on the loop: reads where the owner says, writes at once and keeps what
// the peer does not take. Never raises SIGPIPE. Owned by the connection, which must outlive it.
//
// Interest in events changes lazily, since each change costs two system calls: a readable event
// that nobody wants is what makes it pause, and a paused socket stays watched for EPOLLRDHUP and
// errors. So with the end of the input, after which most sockets are closed.
class Socket {
 public:
  enum class Kind { tcp, local };  // local: AF_UNIX
  Socket(EventLoop& loop, UniqueFd fd, Kind kind, SocketOwner& owner);
  Socket(const Socket&) = delete;

  enum class Status { ok, again, eof, lost, bad_file };
  // One recv() into `into`; `received` is set with `ok`.
  Status read(std::span<char> into, std::size_t& received);
  // True when read() would not say `again`.
  bool input_waiting() const;
  // Stops or resumes on_readable().
  void pause_reading();
  void resume_reading();

  // Writes the parts in order; keeps a copy of what the socket does not take (unsent()).
  // `ok`: all is sent. `again`: on_writable() comes. Counts what the kernel took in sent_bytes().
  Status write(std::span<iovec> parts);
  // Writes the parts as write() does, then `count` bytes (at least 1) of `file` from `offset`, by
  // sendfile(2) where the file allows it. Nothing else may be written before it is sent.
  // `bad_file`: it ended early or can't be read (errno; 0: it ended); what is left is dropped.
  Status write_file(std::span<iovec> parts, UniqueFd file, std::uint64_t offset,
                    std::uint64_t count);
  // Writes what was kept, and of a file as much as a turn of the loop may take.
  Status flush();
  void drop_file();
  // Bytes that are kept in memory.
  std::size_t unsent() const { return kept_.size() - kept_sent_; }
  bool has_output() const { return unsent() > 0 || file_.left > 0; }
  std::size_t sent_bytes() const { return sent_bytes_; }

  bool open() const { return static_cast<bool>(fd_); }
  int fd() const { return fd_.get(); }
  // No more output: FIN.
  void finish_output();
  // Closes the descriptor; no event follows.
  void close();
  // Closes with a reset: what is unsent is thrown away and the peer sees an error.
  void reset();
  // In a forked child: closes the descriptor and nothing else.
  void close_in_forked_child() noexcept;

 private:
  enum class Reading { on, paused, ended };

  void on_event(int status, int events);
  void on_error_event();
  void watch();
  Status send_parts(std::span<iovec> parts, std::size_t& sent, int flags = 0);
  Status send_kept();
  Status send_some_of_file();
  void keep(std::span<iovec> parts, std::size_t skip);

  SocketOwner& owner_;
  UniqueFd fd_;
  Kind kind_;
  std::optional<FdWatcher> watcher_;
  Reading reading_ = Reading::on;
  int watched_ = 0;
  std::string kept_;
  std::size_t kept_sent_ = 0;
  // What follows the kept bytes.
  struct File {
    UniqueFd fd;
    std::uint64_t offset = 0;
    std::uint64_t left = 0;
  };
  File file_;
  std::size_t sent_bytes_ = 0;
};

}  // namespace mgr::server
