#pragma once

#include <llhttp.h>

#include <cstddef>
#include <string_view>

#include "common/server/request_head.h"

namespace mgr::server {

struct HeadLimits {
  std::size_t request_line;  // bytes without CRLF
  std::size_t fields;
  std::size_t field_bytes;  // all of them, with their line ends
};

// Reads request heads from a stream of bytes with llhttp, one after the other, in pieces of any
// size. Limits apply while data arrives. The result is in the RequestHead given to begin().
class HeadParser {
 public:
  explicit HeadParser(const HeadLimits& limits) : limits_(limits) {}

  // The next byte fed is the first of a request line.
  void begin(RequestHead& head);

  enum class Outcome { incomplete, complete, refused };
  struct Step {
    Outcome outcome;
    std::size_t consumed;
    Refusal refusal;
  };
  // Consumes everything, or up to the end of the head when `complete`.
  Step feed(std::string_view input);

 private:
  friend struct HeadCallbacks;

  Step refuse(Refusal refusal) const { return {Outcome::refused, 0, refusal}; }
  Refusal find_request_line(std::string_view input);
  Refusal run(std::string_view input, std::size_t& consumed);
  Refusal too_big() const;
  void extend(RequestHead::Span& span, const char* at, std::size_t size);

  HeadLimits limits_;
  llhttp_t parser_{};
  RequestHead* head_ = nullptr;
  std::size_t line_end_ = 0;     // of the request line, without CRLF; 0: not yet complete
  const char* chunk_ = nullptr;  // the input being executed
  std::size_t before_ = 0;       // bytes of the head before it
  bool value_seen_ = true;       // the next name begins a new field
  bool head_complete_ = false;
  bool too_many_ = false;
};

}  // namespace mgr::server
