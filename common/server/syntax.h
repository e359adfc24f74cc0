#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

// The character classes and small grammars of RFC 9110 that both directions of HTTP/1.1 use.
namespace mgr::server::syntax {

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}
constexpr bool is_alphanumeric(char c) {
  return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z');
}
// The value of a hexadecimal digit; -1: it is none.
constexpr int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  return lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10 : -1;
}

// A set of bytes, for looking up many.
class Bytes {
 public:
  // Letters, digits and `others`.
  static constexpr Bytes alphanumeric_and(std::string_view others) {
    Bytes bytes;
    for (int c = 0; c < 256; ++c)
      bytes.in_[static_cast<std::size_t>(c)] = is_alphanumeric(static_cast<char>(c));
    for (const char c : others) bytes.in_[static_cast<unsigned char>(c)] = true;
    return bytes;
  }
  static constexpr Bytes digits() {
    Bytes bytes;
    for (char c = '0'; c <= '9'; ++c) bytes.in_[static_cast<unsigned char>(c)] = true;
    return bytes;
  }
  // Visible ASCII but `others`.
  static constexpr Bytes visible_without(std::string_view others) {
    Bytes bytes;
    for (int c = 0x21; c < 0x7f; ++c) bytes.in_[static_cast<std::size_t>(c)] = true;
    for (const char c : others) bytes.in_[static_cast<unsigned char>(c)] = false;
    return bytes;
  }

  constexpr bool have(char c) const { return in_[static_cast<unsigned char>(c)]; }
  constexpr bool have_all(std::string_view text) const {
    std::size_t at = 0;
    for (; at + 4 <= text.size(); at += 4) {
      const int four = int{have(text[at])} & int{have(text[at + 1])} & int{have(text[at + 2])} &
                       int{have(text[at + 3])};
      if (four == 0) return false;
    }
    for (; at < text.size(); ++at) {
      if (!have(text[at])) return false;
    }
    return true;
  }

 private:
  std::array<bool, 256> in_{};
};

// tchar of RFC 9110 5.6.2.
inline constexpr Bytes kTokenBytes = Bytes::alphanumeric_and("!#$%&'*+-.^_`|~");

constexpr bool is_token_char(char c) {
  return kTokenBytes.have(c);
}

constexpr bool is_token(std::string_view text) {
  return !text.empty() && kTokenBytes.have_all(text);
}

// Puts a token into lower case; false where it is none, and then some of it has changed.
inline bool lower_token(char* text, std::size_t size) {
  static constexpr auto kLower = [] {
    std::array<char, 256> table{};
    for (int c = 0; c < 256; ++c) {
      if (is_token_char(static_cast<char>(c)))
        table[static_cast<std::size_t>(c)] = lower(static_cast<char>(c));
    }
    return table;
  }();
  for (std::size_t i = 0; i < size; ++i) {
    text[i] = kLower[static_cast<unsigned char>(text[i])];
    if (text[i] == '\0') return false;
  }
  return size > 0;
}

// Bytes that a field value may hold: HTAB, SP, visible, obs-text; no other control characters.
constexpr bool is_field_byte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte >= 0x20 && byte != 0x7f) || c == '\t';
}

namespace detail {
// Whether one of eight bytes is a control character.
inline bool has_control(const char* eight) {
  constexpr std::uint64_t kOnes = ~std::uint64_t{0} / 255;
  std::uint64_t word;
  std::memcpy(&word, eight, sizeof word);
  const std::uint64_t delete_is_0 = word ^ (kOnes * 0x7f);
  const std::uint64_t below_space = (word - kOnes * 0x20) & ~word;
  const std::uint64_t zero = (delete_is_0 - kOnes) & ~delete_is_0;
  return ((below_space | zero) & (kOnes * 0x80)) != 0;
}
}  // namespace detail

inline bool is_field_value(std::string_view text) {
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    if (detail::has_control(text.data() + at)) break;  // which may be a tab
  }
  const bool last_too = at > 0 && text.size() - at < 8;
  if (last_too && !detail::has_control(text.data() + text.size() - 8)) return true;
  for (; at < text.size(); ++at) {
    if (!is_field_byte(text[at])) return false;
  }
  return true;
}

// `lower_case` must be in lower case.
constexpr bool equals_ignoring_case(std::string_view text, std::string_view lower_case) {
  if (text == lower_case) return true;
  if (text.size() != lower_case.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (lower(text[i]) != lower_case[i]) return false;
  }
  return true;
}

constexpr bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

constexpr std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// A number of digits only, at most 2^63 - 1; false otherwise.
constexpr bool parse_decimal(std::string_view text, std::uint64_t& number) {
  if (text.empty() || text.size() > 19) return false;
  std::uint64_t value = 0;
  for (const char c : text) {
    if (!is_digit(c)) return false;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  if (value > static_cast<std::uint64_t>(INT64_MAX)) return false;
  number = value;
  return true;
}

// Takes the first element off a comma-separated list, without the blanks around it.
constexpr std::string_view next_element(std::string_view& list) {
  const std::size_t comma = list.find(',');
  const std::string_view element = trim(list.substr(0, comma));
  list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
  return element;
}

}  // namespace mgr::server::syntax
