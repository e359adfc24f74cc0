#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace mgr::ipc {

// Greatest size of one record in bytes; longer texts (tracebacks) travel in a sealed memfd.
inline constexpr std::size_t kMaxRecord = 4096;
// Most descriptors that one record may carry.
inline constexpr std::size_t kMaxDescriptors = 64;

struct Record {
  std::string text;  // one JSON object; its shape is in messages.h
  std::vector<UniqueFd> descriptors;
};

// One end of a SEQPACKET socketpair between the supervisor and a mold or worker.
// send() never waits. All descriptors are close-on-exec.
class Channel {
 public:
  // Two connected ends.
  static Result<std::pair<Channel, Channel>> pair();
  explicit Channel(UniqueFd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }
  bool open() const { return static_cast<bool>(fd_); }
  void close() { fd_.reset(); }
  // Gives the descriptor away.
  UniqueFd release() { return std::move(fd_); }

  enum class SendResult { sent, would_block, closed };
  // Sends one record with duplicates of `descriptors` (borrowed). CHECKs the size limits.
  SendResult send(std::string_view text, const std::vector<int>& descriptors = {});

  // `none`: nothing to read now. `closed`: the peer is gone (EOF or a reset). `bad`: a record that
  // was cut (MSG_TRUNC or MSG_CTRUNC), which is dropped.
  enum class ReceiveResult { received, none, closed, bad };
  // Reads one record; `wait` blocks until there is one.
  enum class Wait { yes, no };
  ReceiveResult receive(Record& record, Wait wait = Wait::no);

 private:
  UniqueFd fd_;
};

// A memfd that holds `text`, sealed against every change; close-on-exec.
Result<UniqueFd> sealed_memfd(std::string_view name, std::string_view text);
// All of a memfd or file, from its start, at most `limit` bytes.
Result<std::string> read_all(int fd, std::size_t limit = 64u << 20);

}  // namespace mgr::ipc
