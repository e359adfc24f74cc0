#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/server/exchange.h"
#include "common/server/server.h"

namespace mgr::server {

// The standard reason phrase; empty for a status that has none.
std::string_view reason_phrase(int status);

// What the application's head says about framing and connection.
struct ResponseFraming {
  std::optional<std::uint64_t> content_length;
  bool close = false;  // it asked for `Connection: close`
};

// Writes response heads: pre-rendered status lines, a Date that is rendered once a second, and the
// fields that the configuration adds. One a server.
class ResponseHeads {
 public:
  explicit ResponseHeads(const ServerOptions& options);

  // Appends status line and fields, without framing and the empty line, to `out`.
  // An empty `reason` is the standard phrase.
  // Nothing when status, reason, a name or a value is not fit for HTTP, or Content-Length is
  // malformed or repeated; `out` is then unchanged.
  std::optional<ResponseFraming> append(std::string& out, int status,
                                        std::span<const HeaderField> fields,
                                        std::string_view reason = {});

  // A whole informational response, without fields of our own.
  // False: they are not fit for HTTP; `out` is unchanged.
  static bool append_interim(std::string& out, int status, std::span<const HeaderField> fields);
  // Trailer fields, without those that frame a message; likewise.
  static bool append_trailers(std::string& out, std::span<const HeaderField> fields);

 private:
  std::string_view date();

  bool server_header_;
  bool date_header_;
  std::vector<std::pair<std::string, std::string>> added_;  // name in lower case, and its line
  std::size_t most_own_ = 64;  // bytes of Date, Server and what is added
  std::time_t date_second_ = -1;
  std::string date_line_;
};

// The ends of a head, with the empty line.
inline constexpr std::string_view kConnectionClose = "Connection: close\r\n";
inline constexpr std::string_view kConnectionKeepAlive = "Connection: keep-alive\r\n";
inline constexpr std::string_view kChunked = "Transfer-Encoding: chunked\r\n";

// The value of Date (RFC 9110 5.6.7) for a moment.
std::string http_date(std::time_t moment);

}  // namespace mgr::server
