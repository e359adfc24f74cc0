#include "common/server/body_decoder.h"

#include <algorithm>

#include "common/server/syntax.h"

namespace mgr::server {
namespace {

constexpr std::size_t kMostSizeDigits = 15;
constexpr std::size_t kMostExtension = 256;

Refusal bad(const char* reason) {
  return Refusal{400, reason};
}

}  // namespace

void BodyDecoder::begin(const RequestHead& head, const HeadLimits& limits) {
  limits_ = &limits;
  chunked_ = head.framing == RequestHead::Framing::chunked;
  left_ = head.content_length;
  overhead_ = trailers_ = 0;
  switch (head.framing) {
    case RequestHead::Framing::none:
      state_ = State::complete;
      break;
    case RequestHead::Framing::length:
      state_ = State::data;
      break;
    case RequestHead::Framing::chunked:
      state_ = State::size_first;
      break;
  }
}

Refusal BodyDecoder::next(std::string_view& input, std::string_view& data) {
  data = {};
  while (!input.empty() && state_ != State::complete) {
    if (state_ == State::data) {
      data =
          input.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size())));
      input.remove_prefix(data.size());
      left_ -= data.size();
      if (left_ == 0) state_ = chunked_ ? State::data_cr : State::complete;
      return {};
    }
    const char c = input.front();
    input.remove_prefix(1);
    if (const Refusal refusal = take(c)) return refusal;
  }
  return {};
}

Refusal BodyDecoder::take(char c) {
  switch (state_) {
    case State::size_first:
      left_ = 0;
      size_digits_ = 0;
      if (syntax::hex_digit(c) < 0) return bad("malformed chunk size");
      state_ = State::size;
      return take_size(c);
    case State::size:
      return take_size(c);
    case State::extension:
      return take_extension(c);
    case State::size_lf:
      if (c != '\n') return bad("malformed chunk line");
      overhead_ = 0;
      state_ = left_ > 0 ? State::data : State::trailer_start;
      return {};
    case State::data_cr:
      if (c != '\r') return bad("malformed chunk end");
      state_ = State::data_lf;
      return {};
    case State::data_lf:
      if (c != '\n') return bad("malformed chunk end");
      state_ = State::size_first;
      return {};
    case State::trailer_start:
    case State::trailer_name:
    case State::trailer_value:
    case State::trailer_lf:
    case State::end_lf:
      return take_trailer(c);
    case State::data:
    case State::complete:
      break;
  }
  return {};
}

Refusal BodyDecoder::take_size(char c) {
  if (const int digit = syntax::hex_digit(c); digit >= 0) {
    if (++size_digits_ > kMostSizeDigits) return bad("chunk too large");
    left_ = left_ * 16 + static_cast<std::uint64_t>(digit);
    return {};
  }
  overhead_ = 0;
  if (c == '\r') {
    state_ = State::size_lf;
  } else if (c == ';' || syntax::is_blank(c)) {
    state_ = State::extension;
    extension_ = c == ';' ? Extension::begun : Extension::before;
  } else {
    return bad("malformed chunk size");
  }
  return {};
}

Refusal BodyDecoder::take_extension(char c) {
  const bool complete = extension_ == Extension::name || extension_ == Extension::value ||
                        extension_ == Extension::unquoted;
  if (c == '\r' && complete) {
    state_ = State::size_lf;
    return {};
  }
  if (++overhead_ > kMostExtension) return bad("chunk extension too long");
  return extend(c) ? Refusal() : bad("malformed chunk extension");
}

bool BodyDecoder::extend(char c) {
  const auto go_on = [&](Extension to) {
    extension_ = to;
    return true;
  };
  const bool blank = syntax::is_blank(c);
  switch (extension_) {
    case Extension::before:
      return blank || (c == ';' && go_on(Extension::begun));
    case Extension::begun:
      return blank || (syntax::is_token_char(c) && go_on(Extension::name));
    case Extension::name:
      if (syntax::is_token_char(c)) return true;
      [[fallthrough]];
    case Extension::after_name:
      if (blank) return go_on(Extension::after_name);
      if (c == '=') return go_on(Extension::equals);
      return c == ';' && go_on(Extension::begun);
    case Extension::equals:
      if (c == '"') return go_on(Extension::quoted);
      return blank || (syntax::is_token_char(c) && go_on(Extension::value));
    case Extension::value:
      if (syntax::is_token_char(c)) return true;
      [[fallthrough]];
    case Extension::unquoted:
      if (blank) return go_on(Extension::before);
      return c == ';' && go_on(Extension::begun);
    case Extension::quoted:
      if (c == '"') return go_on(Extension::unquoted);
      if (c == '\\') return go_on(Extension::escaped);
      return syntax::is_field_byte(c);
    case Extension::escaped:
      return syntax::is_field_byte(c) && go_on(Extension::quoted);
  }
  return false;
}

Refusal BodyDecoder::take_trailer(char c) {
  if (state_ == State::trailer_start && c == '\r') {
    state_ = State::end_lf;
    return {};
  }
  if (state_ == State::end_lf) {
    state_ = State::complete;
    return c == '\n' ? Refusal() : bad("malformed trailer");
  }
  if (++overhead_ > limits_->field_bytes) return {431, "trailers too large"};
  switch (state_) {
    case State::trailer_start:
      if (++trailers_ > limits_->fields) return {431, "too many trailers"};
      state_ = State::trailer_name;
      return syntax::is_token_char(c) ? Refusal() : bad("malformed trailer");
    case State::trailer_name:
      if (c == ':') {
        state_ = State::trailer_value;
        return {};
      }
      return syntax::is_token_char(c) ? Refusal() : bad("malformed trailer");
    case State::trailer_value:
      if (c == '\r') {
        state_ = State::trailer_lf;
        return {};
      }
      return syntax::is_field_byte(c) ? Refusal() : bad("malformed trailer");
    default:
      state_ = State::trailer_start;
      return c == '\n' ? Refusal() : bad("malformed trailer");
  }
}

}  // namespace mgr::server
