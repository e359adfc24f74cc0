#include "common/server/request_head.h"

#include <algorithm>

#include "common/server/address.h"
#include "common/server/syntax.h"

namespace mgr::server {
namespace {

using syntax::equals_ignoring_case;

Refusal bad(const char* reason) {
  return Refusal{400, reason};
}

constexpr auto kRegName = syntax::Bytes::alphanumeric_and("-._~!$&'()*+;=");

// IP-literal, IPv4address or reg-name, without the comma, which some proxies use to join fields.
// IPvFuture has no version yet.
bool is_host(std::string_view text) {
  if (text.empty()) return false;
  if (text.front() == '[') {
    if (text.back() != ']') return false;
    const std::string_view address = text.substr(1, text.size() - 2);
    return address.find(':') != std::string_view::npos && IpAddress::parse(address);
  }
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (kRegName.have(text[at])) continue;
    if (text[at] != '%' || text.size() - at < 3 || syntax::hex_digit(text[at + 1]) < 0 ||
        syntax::hex_digit(text[at + 2]) < 0) {
      return false;
    }
    at += 2;
  }
  return true;
}

bool is_port(std::string_view text) {
  static constexpr auto kDigits = syntax::Bytes::digits();
  if (!kDigits.have_all(text)) return false;
  if (text.size() <= 5) return text.size() < 5 || text <= "65535";
  std::uint64_t number = 0;
  return syntax::parse_decimal(text, number) && number <= 65535;
}

// uri-host [":" port] (RFC 9112 3.2, RFC 3986 3.2.2).
bool is_authority(std::string_view text) {
  const std::size_t first = std::min(text.find(':'), text.size());
  if (kRegName.have_all(text.substr(0, first))) {
    return first > 0 && (first == text.size() || is_port(text.substr(first + 1)));
  }
  const std::size_t last = text.rfind(':');
  const bool has_port =
      last != std::string_view::npos && text.find(']', last) == std::string_view::npos;
  if (has_port && !is_port(text.substr(last + 1))) return false;
  return is_host(has_port ? text.substr(0, last) : text);
}

// Without a port that says no more than the scheme.
std::string_view without_default_port(std::string_view authority, std::string_view port) {
  if (authority.ends_with(port)) return authority.substr(0, authority.size() - port.size());
  if (authority.ends_with(':')) authority.remove_suffix(1);
  return authority;
}

bool same_ignoring_case(std::string_view one, std::string_view other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [](char a, char b) { return syntax::lower(a) == syntax::lower(b); });
}

bool is_version(std::string_view text) {
  return text.size() == 8 && text.starts_with("HTTP/") && syntax::is_digit(text[5]) &&
         text[6] == '.' && syntax::is_digit(text[7]);
}

// Visible ASCII, and no fragment, which is never sent (RFC 9110 7.1).
bool is_target(std::string_view text) {
  static constexpr auto kBytes = syntax::Bytes::visible_without("#");
  return !text.empty() && kBytes.have_all(text);
}

RequestHead::Span span(std::size_t begin, std::size_t size) {
  return {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(size)};
}

}  // namespace

void RequestHead::clear() {
  raw.clear();
  fields.clear();
  version = HttpVersion::http11;
  framing = Framing::none;
  content_length = 0;
  keep_alive = true;
  expects_continue = false;
  line_end_ = 0;
  method_ = target_ = path_ = query_ = authority_ = Span();
  hosts_ = content_lengths_ = codings_ = 0;
  last_is_chunked_ = unknown_coding_ = chunked_twice_ = false;
  says_close_ = says_keep_alive_ = false;
}

Refusal RequestHead::parse_request_line(std::size_t line_end) {
  line_end_ = line_end;
  const std::string_view line = std::string_view(raw).substr(0, line_end);
  const std::size_t first = line.find(' ');
  const std::string_view method = line.substr(0, first);
  if (!syntax::is_token(method)) return bad("malformed method");
  constexpr std::size_t kVersionSize = 8;
  const std::size_t last = line.size() - std::min(line.size(), kVersionSize + 1);
  const std::string_view name = line.substr(last + 1);
  if (line[last] != ' ' || !is_version(name)) {
    return bad(line.rfind(' ') == first ? "malformed request line" : "malformed HTTP version");
  }
  if (last == first) return bad("malformed request line");
  method_ = span(0, first);
  target_ = span(first + 1, last - first - 1);
  // The preface of HTTP/2 has a target of "*", so the version comes before the target.
  if (name[5] != '1' || name[7] > '1') return {505, "only HTTP/1.1 and HTTP/1.0 are spoken"};
  version = name[7] == '1' ? HttpVersion::http11 : HttpVersion::http10;
  if (method == "CONNECT") return bad("CONNECT is not served");
  return parse_target();
}

Refusal RequestHead::parse_target() {
  const std::string_view target = view(target_);
  if (!is_target(target)) return bad("malformed request target");
  if (target == "*") {
    path_ = target_;
    return view(method_) == "OPTIONS" ? Refusal() : bad("target '*' is for OPTIONS alone");
  }
  path_ = target_;
  if (target.front() != '/') {
    if (const Refusal refusal = parse_absolute_target()) return refusal;
  }
  const std::string_view path = view(path_);
  if (const std::size_t mark = path.find('?'); mark != std::string_view::npos) {
    query_ = span(path_.begin + mark + 1, path.size() - mark - 1);
    path_.size = static_cast<std::uint32_t>(mark);
  }
  return {};
}

Refusal RequestHead::parse_absolute_target() {
  const std::string_view target = view(target_);
  const std::size_t colon = target.find("://");
  if (colon == std::string_view::npos) return bad("malformed request target");
  const std::string_view scheme = target.substr(0, colon);
  if (!equals_ignoring_case(scheme, "http") && !equals_ignoring_case(scheme, "https")) {
    return bad("only http and https targets are served");
  }
  const std::size_t begin = colon + 3;
  const std::size_t end = std::min(target.find_first_of("/?", begin), target.size());
  authority_ = span(target_.begin + begin, end - begin);
  if (!is_authority(view(authority_))) return bad("malformed authority");
  path_ = span(target_.begin + end, target.size() - end);
  return {};
}

std::string_view RequestHead::request_line() const {
  const std::string_view text = raw;
  return text.substr(0,
                     line_end_ > 0 ? line_end_ : std::min(text.find_first_of("\r\n"), text.size()));
}

Refusal RequestHead::check_structure() {
  const std::string_view text = raw;
  std::size_t at = line_end_ + 2;
  for (const Field& field : fields) {
    const std::size_t colon = field.name.begin + field.name.size;
    if (field.name.begin != at || !syntax::lower_token(&raw[at], field.name.size))
      return bad("malformed field name");
    if (raw[colon] != ':') return bad("malformed field");
    at = colon + 1;
    while (syntax::is_blank(raw[at])) ++at;
    // llhttp leaves the value's place unset where the value is empty.
    if (field.value.size > 0) {
      if (field.value.begin != at || !syntax::is_field_value(view(field.value))) {
        return bad("malformed field value");
      }
      at += field.value.size;
    }
    while (syntax::is_blank(raw[at])) ++at;
    if (text.substr(at, 2) != "\r\n") return bad("malformed end of a field");
    at += 2;
  }
  return text.substr(at) == "\r\n" ? Refusal() : bad("malformed end of the head");
}

Refusal RequestHead::check_fields() {
  if (const Refusal refusal = check_structure()) return refusal;
  for (Field& field : fields) {
    const std::string_view value = syntax::trim(view(field.value));
    field.value.size = static_cast<std::uint32_t>(value.size());
    if (const Refusal refusal = note_field(view(field.name), value)) return refusal;
  }
  return conclude();
}

Refusal RequestHead::note_field(std::string_view name, std::string_view value) {
  switch (name.size()) {
    case 4:
      if (name == "host") return note_host(value);
      break;
    case 6:
      if (name == "expect") {
        if (!equals_ignoring_case(value, "100-continue")) return {417, "unknown expectation"};
        expects_continue = true;
      }
      break;
    case 10:
      if (name == "connection") note_connection(value);
      break;
    case 14:
      if (name == "content-length") return note_content_length(value);
      break;
    case 17:
      if (name == "transfer-encoding") return note_transfer_encoding(value);
      break;
    default:
      break;
  }
  return {};
}

Refusal RequestHead::note_host(std::string_view value) {
  if (++hosts_ > 1) return bad("repeated Host");
  if (!value.empty() && !is_authority(value)) return bad("malformed Host");
  if (authority_.size > 0 && !targets(value)) return bad("Host and target disagree");
  return {};
}

// Whether an absolute target names the same host and port as Host. RFC 9112 3.2.2 lets the target
// win; readers that take Host instead would disagree.
bool RequestHead::targets(std::string_view host) const {
  const bool https = view(target_).find(':') == std::string_view("https").size();
  const std::string_view port = https ? ":443" : ":80";
  return same_ignoring_case(without_default_port(host, port),
                            without_default_port(view(authority_), port));
}

Refusal RequestHead::note_content_length(std::string_view value) {
  if (++content_lengths_ > 1) return bad("repeated Content-Length");
  return syntax::parse_decimal(value, content_length) ? Refusal() : bad("malformed Content-Length");
}

Refusal RequestHead::note_transfer_encoding(std::string_view value) {
  do {
    const std::string_view coding = syntax::next_element(value);
    const std::string_view name = syntax::trim(coding.substr(0, coding.find(';')));
    if (!syntax::is_token(name)) return bad("malformed Transfer-Encoding");
    if (last_is_chunked_) chunked_twice_ = true;
    last_is_chunked_ = equals_ignoring_case(coding, "chunked");
    if (!last_is_chunked_) unknown_coding_ = true;
    ++codings_;
  } while (!value.empty());
  return {};
}

void RequestHead::note_connection(std::string_view value) {
  while (!value.empty()) {
    const std::string_view option = syntax::next_element(value);
    if (equals_ignoring_case(option, "close")) says_close_ = true;
    if (equals_ignoring_case(option, "keep-alive")) says_keep_alive_ = true;
  }
}

Refusal RequestHead::conclude() {
  if (hosts_ == 0 && version == HttpVersion::http11) return bad("missing Host");
  keep_alive = !says_close_ && (version == HttpVersion::http11 || says_keep_alive_);
  if (codings_ > 0) {
    if (version == HttpVersion::http10) return bad("Transfer-Encoding in HTTP/1.0");
    if (content_lengths_ > 0) return bad("Content-Length with Transfer-Encoding");
    // "chunked" must be the last coding, and applied once (RFC 9112 6.1).
    if (chunked_twice_) return bad("malformed Transfer-Encoding");
    if (unknown_coding_) return {501, "unknown transfer coding"};
    framing = Framing::chunked;
  } else if (content_length > 0) {
    framing = Framing::length;
  }
  if (framing == Framing::none || version == HttpVersion::http10) expects_continue = false;
  return {};
}

void RequestHead::describe(Request& request) const {
  request.version = version;
  request.method = view(method_);
  request.target = view(target_);
  request.raw_path = path_.size > 0 ? view(path_) : std::string_view("/");
  request.query = view(query_);
  request.has_body = framing != Framing::none;
  request.headers.clear();
  request.headers.reserve(fields.size());
  for (const Field& field : fields)
    request.headers.push_back({view(field.name), view(field.value)});
}

}  // namespace mgr::server
