#include "common/server/head_parser.h"

#include "common/server/syntax.h"

namespace mgr::server {

struct HeadCallbacks {
  static HeadParser& self(llhttp_t* parser) { return *static_cast<HeadParser*>(parser->data); }

  static int on_field(llhttp_t* parser, const char* at, std::size_t size) {
    HeadParser& me = self(parser);
    auto& fields = me.head_->fields;
    if (me.value_seen_) {
      me.too_many_ = fields.size() == me.limits_.fields;
      if (me.too_many_) return HPE_USER;
      fields.emplace_back();
      me.value_seen_ = false;
    }
    me.extend(fields.back().name, at, size);
    return 0;
  }
  static int on_value(llhttp_t* parser, const char* at, std::size_t size) {
    HeadParser& me = self(parser);
    if (me.head_->fields.empty()) return HPE_USER;  // a value without a name
    me.value_seen_ = true;
    if (size > 0) me.extend(me.head_->fields.back().value, at, size);
    return 0;
  }
  static int on_value_complete(llhttp_t* parser) {
    self(parser).value_seen_ = true;
    return 0;
  }
  static int on_headers_complete(llhttp_t* parser) {
    self(parser).head_complete_ = true;
    return HPE_PAUSED;
  }
  static const llhttp_settings_t* settings() {
    static const llhttp_settings_t table = [] {
      llhttp_settings_t s;
      llhttp_settings_init(&s);
      s.on_header_field = on_field;
      s.on_header_value = on_value;
      s.on_header_value_complete = on_value_complete;
      s.on_headers_complete = on_headers_complete;
      return s;
    }();
    return &table;
  }
};

namespace {
constexpr Refusal kLineTooLong{414, "request line too long"};
constexpr Refusal kTooManyFields{431, "too many header fields"};
constexpr Refusal kFieldsTooLarge{431, "header fields too large"};
}  // namespace

void HeadParser::begin(RequestHead& head) {
  head_ = &head;
  head.clear();
  llhttp_init(&parser_, HTTP_REQUEST, HeadCallbacks::settings());
  parser_.data = this;
  line_end_ = 0;
  value_seen_ = true;
  head_complete_ = false;
  too_many_ = false;
}

HeadParser::Step HeadParser::feed(std::string_view input) {
  std::string& raw = head_->raw;
  std::size_t consumed = 0;
  if (line_end_ == 0) {
    // llhttp gets the request line as a whole: what it says of one does not depend on its pieces.
    const std::size_t newline = input.find('\n');
    const std::size_t part = newline == std::string_view::npos ? input.size() : newline + 1;
    raw.append(input.substr(0, part));
    if (const Refusal refusal = find_request_line(input.substr(0, part))) return refuse(refusal);
    if (line_end_ == 0) return {Outcome::incomplete, part, {}};
    consumed = part;
    input.remove_prefix(part);
  }
  std::size_t used = 0;
  if (const Refusal refusal = run(input, used)) return refuse(refusal);
  consumed += used;
  if (const Refusal refusal = too_big()) return refuse(refusal);
  if (!head_complete_) return {Outcome::incomplete, consumed, {}};
  if (const Refusal refusal = head_->check_fields()) return refuse(refusal);
  return {Outcome::complete, consumed, {}};
}

// `input` is what has just been appended.
Refusal HeadParser::find_request_line(std::string_view input) {
  const std::string& raw = head_->raw;
  if (!syntax::is_token_char(raw.front())) return {400, "malformed method"};
  const bool complete = input.ends_with('\n');
  if (raw.size() > limits_.request_line + (complete ? 2 : 1)) return kLineTooLong;
  if (!complete) return {};
  if (raw.size() < 2 || raw[raw.size() - 2] != '\r') return {400, "malformed request line"};
  if (const Refusal refusal = head_->parse_request_line(raw.size() - 2)) return refusal;
  line_end_ = raw.size() - 2;
  before_ = 0;
  chunk_ = raw.data();
  switch (llhttp_execute(&parser_, raw.data(), raw.size())) {
    case HPE_OK:
      return {};
    case HPE_INVALID_METHOD:
    case HPE_INVALID_CONSTANT:  // a method of another protocol that llhttp knows
      return {501, "unknown method"};
    default:
      return {400, "malformed request line"};
  }
}

Refusal HeadParser::run(std::string_view input, std::size_t& consumed) {
  before_ = head_->raw.size();
  chunk_ = input.data();
  const llhttp_errno_t error = llhttp_execute(&parser_, input.data(), input.size());
  if (too_many_) return kTooManyFields;
  if (error == HPE_PAUSED && head_complete_) {
    consumed = static_cast<std::size_t>(llhttp_get_error_pos(&parser_) - input.data());
  } else if (error == HPE_OK && !head_complete_) {
    consumed = input.size();
  } else {
    return {400, "malformed header field"};
  }
  head_->raw.append(input.substr(0, consumed));
  return {};
}

Refusal HeadParser::too_big() const {
  const std::size_t others = line_end_ + 2 + (head_complete_ ? 2 : 0);
  return head_->raw.size() > others + limits_.field_bytes ? kFieldsTooLarge : Refusal();
}

// A span that comes in pieces which are not adjacent (a folded line) keeps its first place and a
// size that the structure check finds out.
void HeadParser::extend(RequestHead::Span& span, const char* at, std::size_t size) {
  if (span.size == 0)
    span.begin = static_cast<std::uint32_t>(before_ + static_cast<std::size_t>(at - chunk_));
  span.size += static_cast<std::uint32_t>(size);
}

}  // namespace mgr::server
