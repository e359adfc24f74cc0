#pragma once

#include <cstdint>
#include <string_view>

#include "common/server/head_parser.h"
#include "common/server/request_head.h"

namespace mgr::server {

// Finds the end of a request body and takes the chunked coding off it (RFC 9112 6, 7.1). Strict:
// every line ends in CRLF; sizes and extensions are bounded, trailers by the limits of a head.
// Extensions and trailers are checked and dropped.
class BodyDecoder {
 public:
  // `limits` must outlive the body.
  void begin(const RequestHead& head, const HeadLimits& limits);
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

  // What has come of a chunk's extensions (RFC 9112 7.1.1).
  enum class Extension {
    before,  // blanks that only another extension may follow
    begun,   // a semicolon
    name,
    after_name,
    equals,
    value,
    quoted,
    escaped,
    unquoted,  // a quoted value is complete
  };

  Refusal take(char c);
  Refusal take_size(char c);
  Refusal take_extension(char c);
  // False: `c` may not stand here.
  bool extend(char c);
  Refusal take_trailer(char c);

  const HeadLimits* limits_ = nullptr;
  State state_ = State::complete;
  Extension extension_ = Extension::before;
  bool chunked_ = false;
  std::uint64_t left_ = 0;  // of the chunk or the body
  std::size_t size_digits_ = 0;
  std::size_t overhead_ = 0;  // bytes of this chunk's extensions, or of all trailers
  std::size_t trailers_ = 0;
};

}  // namespace mgr::server
