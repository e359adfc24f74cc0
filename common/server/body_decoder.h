#pragma once

#include <cstdint>
#include <string_view>

#include "common/server/request_head.h"

namespace mgr::server {

// Finds the end of a request body and takes the chunked coding off it (RFC 9112 6, 7.1). Strict:
// every line ends in CRLF; sizes, extensions and trailers are bounded. Trailers are checked and
// dropped.
class BodyDecoder {
 public:
  void begin(const RequestHead& head);
  bool complete() const { return state_ == State::complete; }
  // Bytes still to come by Content-Length; 0 when chunked.
  std::uint64_t remaining() const { return chunked_ ? 0 : left_; }

  // Takes a piece off the front of `input`: `data` is a part of the body, possibly empty.
  // Call until the input is empty or complete().
  Refusal next(std::string_view& input, std::string_view& data);

 private:
  enum class State {
    data,
    size_first,  // the first digit of a chunk size
    size,
    extension,
    size_lf,
    data_cr,
    data_lf,
    trailer_start,  // the first byte of a trailer line
    trailer_name,
    trailer_value,
    trailer_lf,
    end_lf,
    complete,
  };

  Refusal take(char c);
  Refusal take_size(char c);
  Refusal take_extension(char c);
  Refusal take_trailer(char c);

  State state_ = State::complete;
  bool chunked_ = false;
  std::uint64_t left_ = 0;  // of the chunk or the body
  std::size_t size_digits_ = 0;
  std::size_t overhead_ = 0;  // bytes of this extension, or of all trailers
};

}  // namespace mgr::server
