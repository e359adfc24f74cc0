#include "common/server/response_head.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "common/server/syntax.h"

namespace mgr::server {
namespace {

using syntax::equals_ignoring_case;

struct StatusLine {
  int status;
  std::string_view line;
};

constexpr std::array kStatusLines = {
    StatusLine{100, "HTTP/1.1 100 Continue\r\n"},
    StatusLine{101, "HTTP/1.1 101 Switching Protocols\r\n"},
    StatusLine{103, "HTTP/1.1 103 Early Hints\r\n"},
    StatusLine{200, "HTTP/1.1 200 OK\r\n"},
    StatusLine{201, "HTTP/1.1 201 Created\r\n"},
    StatusLine{202, "HTTP/1.1 202 Accepted\r\n"},
    StatusLine{203, "HTTP/1.1 203 Non-Authoritative Information\r\n"},
    StatusLine{204, "HTTP/1.1 204 No Content\r\n"},
    StatusLine{205, "HTTP/1.1 205 Reset Content\r\n"},
    StatusLine{206, "HTTP/1.1 206 Partial Content\r\n"},
    StatusLine{300, "HTTP/1.1 300 Multiple Choices\r\n"},
    StatusLine{301, "HTTP/1.1 301 Moved Permanently\r\n"},
    StatusLine{302, "HTTP/1.1 302 Found\r\n"},
    StatusLine{303, "HTTP/1.1 303 See Other\r\n"},
    StatusLine{304, "HTTP/1.1 304 Not Modified\r\n"},
    StatusLine{305, "HTTP/1.1 305 Use Proxy\r\n"},
    StatusLine{307, "HTTP/1.1 307 Temporary Redirect\r\n"},
    StatusLine{308, "HTTP/1.1 308 Permanent Redirect\r\n"},
    StatusLine{400, "HTTP/1.1 400 Bad Request\r\n"},
    StatusLine{401, "HTTP/1.1 401 Unauthorized\r\n"},
    StatusLine{402, "HTTP/1.1 402 Payment Required\r\n"},
    StatusLine{403, "HTTP/1.1 403 Forbidden\r\n"},
    StatusLine{404, "HTTP/1.1 404 Not Found\r\n"},
    StatusLine{405, "HTTP/1.1 405 Method Not Allowed\r\n"},
    StatusLine{406, "HTTP/1.1 406 Not Acceptable\r\n"},
    StatusLine{407, "HTTP/1.1 407 Proxy Authentication Required\r\n"},
    StatusLine{408, "HTTP/1.1 408 Request Timeout\r\n"},
    StatusLine{409, "HTTP/1.1 409 Conflict\r\n"},
    StatusLine{410, "HTTP/1.1 410 Gone\r\n"},
    StatusLine{411, "HTTP/1.1 411 Length Required\r\n"},
    StatusLine{412, "HTTP/1.1 412 Precondition Failed\r\n"},
    StatusLine{413, "HTTP/1.1 413 Content Too Large\r\n"},
    StatusLine{414, "HTTP/1.1 414 URI Too Long\r\n"},
    StatusLine{415, "HTTP/1.1 415 Unsupported Media Type\r\n"},
    StatusLine{416, "HTTP/1.1 416 Range Not Satisfiable\r\n"},
    StatusLine{417, "HTTP/1.1 417 Expectation Failed\r\n"},
    StatusLine{418, "HTTP/1.1 418 I'm a teapot\r\n"},
    StatusLine{421, "HTTP/1.1 421 Misdirected Request\r\n"},
    StatusLine{422, "HTTP/1.1 422 Unprocessable Content\r\n"},
    StatusLine{423, "HTTP/1.1 423 Locked\r\n"},
    StatusLine{424, "HTTP/1.1 424 Failed Dependency\r\n"},
    StatusLine{425, "HTTP/1.1 425 Too Early\r\n"},
    StatusLine{426, "HTTP/1.1 426 Upgrade Required\r\n"},
    StatusLine{428, "HTTP/1.1 428 Precondition Required\r\n"},
    StatusLine{429, "HTTP/1.1 429 Too Many Requests\r\n"},
    StatusLine{431, "HTTP/1.1 431 Request Header Fields Too Large\r\n"},
    StatusLine{451, "HTTP/1.1 451 Unavailable For Legal Reasons\r\n"},
    StatusLine{500, "HTTP/1.1 500 Internal Server Error\r\n"},
    StatusLine{501, "HTTP/1.1 501 Not Implemented\r\n"},
    StatusLine{502, "HTTP/1.1 502 Bad Gateway\r\n"},
    StatusLine{503, "HTTP/1.1 503 Service Unavailable\r\n"},
    StatusLine{504, "HTTP/1.1 504 Gateway Timeout\r\n"},
    StatusLine{505, "HTTP/1.1 505 HTTP Version Not Supported\r\n"},
    StatusLine{507, "HTTP/1.1 507 Insufficient Storage\r\n"},
    StatusLine{508, "HTTP/1.1 508 Loop Detected\r\n"},
    StatusLine{511, "HTTP/1.1 511 Network Authentication Required\r\n"},
};

// Index into kStatusLines + 1 for each status below 600; 0: none.
constexpr std::array<std::uint8_t, 600> make_index() {
  std::array<std::uint8_t, 600> index{};
  for (std::size_t i = 0; i < kStatusLines.size(); ++i) {
    index[static_cast<std::size_t>(kStatusLines[i].status)] = static_cast<std::uint8_t>(i + 1);
  }
  return index;
}
constexpr auto kIndex = make_index();

constexpr std::size_t kLongestStatusLine = [] {
  std::size_t longest = 0;
  for (const StatusLine& line : kStatusLines) longest = std::max(longest, line.line.size());
  return longest;
}();

std::string_view status_line(int status) {
  if (status < 100 || status >= 600) return {};
  const auto index = kIndex[static_cast<std::size_t>(status)];
  return index == 0 ? std::string_view() : kStatusLines[index - 1u].line;
}

constexpr std::string_view kServer = "Server: mgr\r\n";

enum class Known { no, content_length, connection, dropped, server, date };

Known known_field(std::string_view name) {
  switch (name.size()) {
    case 4:
      return equals_ignoring_case(name, "date") ? Known::date : Known::no;
    case 6:
      return equals_ignoring_case(name, "server") ? Known::server : Known::no;
    case 10:
      if (equals_ignoring_case(name, "connection")) return Known::connection;
      return equals_ignoring_case(name, "keep-alive") ? Known::dropped : Known::no;
    case 14:
      return equals_ignoring_case(name, "content-length") ? Known::content_length : Known::no;
    case 17:
      return equals_ignoring_case(name, "transfer-encoding") ? Known::dropped : Known::no;
    default:
      return Known::no;
  }
}

bool lists_close(std::string_view value) {
  while (!value.empty()) {
    if (equals_ignoring_case(syntax::next_element(value), "close")) return true;
  }
  return false;
}

// Into memory that is enough; the end of what was written.
char* put(char* to, std::string_view text) {
  return std::copy(text.begin(), text.end(), to);  // an empty text may have no data
}

char* put_field(char* to, std::string_view name, std::string_view value) {
  return put(put(put(put(to, name), ": "), value), "\r\n");
}

// What of ours the application has set itself.
struct Own {
  bool server = false;
  bool date = false;
};

// Null: they are not fit for HTTP. Content-Length is kept out: 204 and 1xx must not have it
// (RFC 9110 8.6).
char* put_fields(char* to, std::span<const HeaderField> fields, ResponseFraming& framing,
                 Own& own) {
  for (const HeaderField& field : fields) {
    if (!syntax::is_token(field.name) || !syntax::is_field_value(field.value)) return nullptr;
    switch (known_field(field.name)) {
      case Known::content_length: {
        std::uint64_t length = 0;
        if (framing.content_length || !syntax::parse_decimal(syntax::trim(field.value), length)) {
          return nullptr;
        }
        framing.content_length = length;
        continue;
      }
      case Known::connection:
        if (lists_close(field.value)) framing.close = true;
        continue;
      case Known::dropped:
        continue;
      case Known::server:
        own.server = true;
        break;
      case Known::date:
        own.date = true;
        break;
      case Known::no:
        break;
    }
    to = put_field(to, field.name, field.value);
  }
  return to;
}

char* put_status_line(char* to, int status, std::string_view reason) {
  const std::string_view line = status_line(status);
  if (!line.empty() && (reason.empty() || reason == reason_phrase(status))) return put(to, line);
  to = put(to, "HTTP/1.1 ");
  to = put(std::to_chars(to, to + 3, status).ptr, " ");
  return put(put(to, reason), "\r\n");
}

bool contains(std::span<const HeaderField> fields, std::string_view lower_case) {
  for (const HeaderField& field : fields) {
    if (equals_ignoring_case(field.name, lower_case)) return true;
  }
  return false;
}

std::string to_lower(std::string_view text) {
  std::string copy(text);
  for (char& c : copy) c = syntax::lower(c);
  return copy;
}

}  // namespace

std::string_view reason_phrase(int status) {
  const std::string_view line = status_line(status);
  return line.empty() ? line : line.substr(13, line.size() - 15);
}

std::string http_date(std::time_t moment) {
  static constexpr std::array kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm utc{};
  gmtime_r(&moment, &utc);
  return fmt::format("{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
                     kDays[static_cast<std::size_t>(utc.tm_wday)], utc.tm_mday,
                     kMonths[static_cast<std::size_t>(utc.tm_mon)], utc.tm_year + 1900, utc.tm_hour,
                     utc.tm_min, utc.tm_sec);
}

ResponseHeads::ResponseHeads(const ServerOptions& options)
    : server_header_(options.server_header), date_header_(options.date_header) {
  for (const auto& [name, value] : options.headers) {
    added_.emplace_back(to_lower(name), name + ": " + value + "\r\n");
    // It takes the place of the built-in one.
    if (added_.back().first == "server") server_header_ = false;
    if (added_.back().first == "date") date_header_ = false;
    most_own_ += added_.back().second.size();
  }
}

std::string_view ResponseHeads::date() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (now.tv_sec != date_second_) {
    date_second_ = now.tv_sec;
    date_line_ = "Date: " + http_date(now.tv_sec) + "\r\n";
  }
  return date_line_;
}

std::optional<ResponseFraming> ResponseHeads::append(std::string& out, int status,
                                                     std::span<const HeaderField> fields,
                                                     std::string_view reason) {
  if (status < 100 || status > 999 || !syntax::is_field_value(reason)) return std::nullopt;
  const std::size_t before = out.size();
  std::size_t most = kLongestStatusLine + reason.size() + most_own_;
  for (const HeaderField& field : fields) most += field.name.size() + field.value.size() + 4;
  out.resize(before + most);
  ResponseFraming framing;
  Own own;
  char* to = put_status_line(out.data() + before, status, reason);
  to = put_fields(to, fields, framing, own);
  if (!to) {
    out.resize(before);
    return std::nullopt;
  }
  if (date_header_ && !own.date) to = put(to, date());
  if (server_header_ && !own.server) to = put(to, kServer);
  for (const auto& [name, line] : added_) {
    if (!contains(fields, name)) to = put(to, line);
  }
  out.resize(static_cast<std::size_t>(to - out.data()));
  return framing;
}

bool ResponseHeads::append_interim(std::string& out, int status,
                                   std::span<const HeaderField> fields) {
  if (status < 102 || status > 199) return false;
  const std::size_t before = out.size();
  out.resize(before + kLongestStatusLine);
  const char* end = put_status_line(out.data() + before, status, {});
  out.resize(static_cast<std::size_t>(end - out.data()));
  if (!append_trailers(out, fields)) {
    out.resize(before);
    return false;
  }
  out.append("\r\n");
  return true;
}

bool ResponseHeads::append_trailers(std::string& out, std::span<const HeaderField> fields) {
  const std::size_t before = out.size();
  std::size_t most = 0;
  for (const HeaderField& field : fields) most += field.name.size() + field.value.size() + 4;
  out.resize(before + most);
  ResponseFraming ignored;
  Own own;
  const char* end = put_fields(out.data() + before, fields, ignored, own);
  out.resize(end ? static_cast<std::size_t>(end - out.data()) : before);
  return end != nullptr;
}

}  // namespace mgr::server
