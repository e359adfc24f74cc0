#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mgr::load {

// One HTTP/1.1 response after another from a stream of bytes (RFC 9112 6). Deliberately no code of
// the server under test: a shared misunderstanding would hide a defect.
class ResponseParser {
 public:
  enum class State {
    head,
    fixed_body,
    chunk_head,
    chunk_data,
    chunk_end,
    trailers,
    body_until_eof,
    complete,
    malformed,
  };

  // Takes bytes up to the end of the current response and returns how many it took.
  std::size_t feed(std::string_view data);
  // The connection has ended; true when that completes the response.
  bool finish_at_eof();
  // Forgets the response, ready for the next one.
  void reset();

  State state() const { return state_; }
  bool complete() const { return state_ == State::complete; }
  bool malformed() const { return state_ == State::malformed; }
  bool head_complete() const { return state_ != State::head; }
  // Bytes of the current response seen so far.
  std::uint64_t bytes_seen() const { return bytes_seen_; }
  int status() const { return status_; }
  // The server ends the connection after this response.
  bool closes() const { return closes_; }
  // The body, or its first kKeptBody bytes.
  std::string_view body() const { return body_; }

  static constexpr std::size_t kKeptBody = 64 * 1024;

 private:
  std::size_t take_line(std::string_view data);
  std::size_t take_body(std::string_view data, State next);
  void finish_line();
  void finish_head();
  void take_status_line(std::string_view line);
  void take_field(std::string_view line);

  State state_ = State::head;
  std::string line_;
  bool status_seen_ = false;
  std::string body_;
  std::uint64_t remaining_ = 0;
  std::uint64_t bytes_seen_ = 0;
  int status_ = 0;
  bool http10_ = false;
  bool closes_ = false;
  bool chunked_ = false;
  bool has_length_ = false;
};

}  // namespace mgr::load
