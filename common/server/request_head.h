#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/server/exchange.h"

namespace mgr::server {

// Why a request is refused: the status and one line for the client. 0: it is not.
struct Refusal {
  int status = 0;
  const char* reason = "";
  explicit operator bool() const { return status != 0; }
};

// The bytes of one request head and what they mean. The request line is parsed here; the fields'
// places come from HeadParser (llhttp) and are checked here against the bytes, so that nothing is
// accepted that two parsers could read differently (RFC 9112 3, 5, 6; design: one strict policy).
// All views point into `raw` and are valid until clear() or an append().
class RequestHead {
 public:
  struct Span {
    std::uint32_t begin = 0;
    std::uint32_t size = 0;
  };
  struct Field {
    Span name;
    Span value;
  };
  enum class Framing { none, length, chunked };

  // From the request line to the empty line.
  std::string raw;
  std::vector<Field> fields;

  HttpVersion version = HttpVersion::http11;
  Framing framing = Framing::none;
  std::uint64_t content_length = 0;
  bool keep_alive = true;
  bool expects_continue = false;

  void clear();
  std::string_view view(Span span) const {
    return std::string_view(raw).substr(span.begin, span.size);
  }

  // Parses the request line raw[0, line_end), without its CRLF.
  Refusal parse_request_line(std::size_t line_end);
  // The request line as far as it has come, for the log.
  std::string_view request_line() const;
  // Checks the fields and finds the framing. Lower-cases the names in place.
  Refusal check_fields();
  // Sets everything but scheme, client and server.
  void describe(Request& request) const;

 private:
  Refusal parse_target();
  Refusal parse_absolute_target();
  Refusal check_structure();
  Refusal note_field(std::string_view name, std::string_view value);
  Refusal note_host(std::string_view value);
  bool targets(std::string_view host) const;
  Refusal note_content_length(std::string_view value);
  Refusal note_transfer_encoding(std::string_view value);
  void note_connection(std::string_view value);
  Refusal conclude();

  std::size_t line_end_ = 0;
  Span method_;
  Span target_;
  Span path_;  // empty: "/" of an absolute-form without a path
  Span query_;
  Span authority_;  // of an absolute-form
  int hosts_ = 0;
  int content_lengths_ = 0;
  int codings_ = 0;
  bool last_is_chunked_ = false;
  bool unknown_coding_ = false;
  bool chunked_twice_ = false;
  bool says_close_ = false;
  bool says_keep_alive_ = false;
};

}  // namespace mgr::server
