#include "common/settings/value.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/base/utf8.h"

namespace mgr::settings {
namespace {

using std::chrono::milliseconds;

struct Unit {
  std::string_view name;
  std::int64_t factor;
};

// Largest first, for formatting.
constexpr std::array<Unit, 4> kTimeUnits{{{"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};
constexpr std::array<Unit, 3> kSizeUnits{{{"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}}};

// Number and unit apart; an empty number where the text does not begin with one.
std::pair<std::string_view, std::string_view> split_unit(std::string_view text) {
  std::size_t end = 0;
  while (end < text.size() &&
         (std::isdigit(static_cast<unsigned char>(text[end])) || text[end] == '.'))
    ++end;
  return {text.substr(0, end), text.substr(end)};
}

std::optional<double> parse_decimal(std::string_view text) {
  double value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return value;
}

std::optional<std::int64_t> time_factor(std::string_view unit) {
  if (unit.empty()) return 1000;
  for (const Unit& known : kTimeUnits)
    if (known.name == unit) return known.factor;
  return {};
}

std::optional<std::int64_t> size_factor(std::string_view unit) {
  if (unit.empty()) return 1;
  if (unit.size() != 1) return {};
  const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(unit.front())));
  for (const Unit& known : kSizeUnits)
    if (known.name.front() == lower) return known.factor;
  return {};
}

// A JSON scalar as text, or nothing.
std::optional<std::string> scalar_text(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_number()) return value.dump();
  return {};
}

}  // namespace

std::string_view shape_name(const Spelled& value) {
  struct Names {
    std::string_view operator()(const std::string&) const { return "a single value"; }
    std::string_view operator()(const Texts&) const { return "a list"; }
    std::string_view operator()(const TextMap&) const { return "a map"; }
  };
  return std::visit(Names{}, value);
}

Result<Spelled> spelled_from_json(const nlohmann::json& value) {
  if (std::optional<std::string> text = scalar_text(value)) return Spelled(std::move(*text));
  if (value.is_array()) {
    Texts texts;
    for (const nlohmann::json& element : value) {
      std::optional<std::string> text = scalar_text(element);
      if (!text) return Error("a list of texts is needed");
      texts.push_back(std::move(*text));
    }
    return Spelled(std::move(texts));
  }
  if (value.is_object()) {
    TextMap map;
    for (const auto& [key, element] : value.items()) {
      std::optional<std::string> text = scalar_text(element);
      if (!text) return Error("a map of texts is needed");
      map.emplace(key, std::move(*text));
    }
    return Spelled(std::move(map));
  }
  return Error("no value is given");
}

Result<milliseconds> parse_duration(std::string_view text) {
  const auto [number, unit] = split_unit(text);
  const std::optional<double> value = parse_decimal(number);
  const std::optional<std::int64_t> factor = time_factor(unit);
  if (!value || !factor)
    return Error(in_quotes(text) + " is no duration (such as 500ms, 30s, 5m, 2h)");
  const double exact = *value * static_cast<double>(*factor);
  if (exact > 1e15) return Error(in_quotes(text) + " is out of range");
  const milliseconds result(std::llround(exact));
  if (std::abs(exact - static_cast<double>(result.count())) > 1e-6)
    return Error(in_quotes(text) + " is finer than a millisecond");
  return result;
}

Result<std::int64_t> parse_size(std::string_view text) {
  const auto [number, unit] = split_unit(text);
  const Result<std::int64_t> value = parse_integer(number);
  const std::optional<std::int64_t> factor = size_factor(unit);
  if (!value || !factor) return Error(in_quotes(text) + " is no size (such as 8190, 64k, 16m, 1g)");
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(*value, *factor, &bytes))
    return Error(in_quotes(text) + " is out of range");
  return bytes;
}

Result<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return Error(in_quotes(text) + " is out of range");
  if (error != std::errc{} || end != text.data() + text.size())
    return Error(in_quotes(text) + " is no whole number");
  return value;
}

Result<int> parse_mode(std::string_view text) {
  std::string_view digits = text;
  if (digits.starts_with("0o")) digits.remove_prefix(2);
  int mode = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), mode, 8);
  if (error != std::errc{} || end != digits.data() + digits.size() || mode < 0)
    return Error(in_quotes(text) + " is no octal mode");
  return mode;
}

Result<bool> parse_switch(std::string_view text) {
  for (const std::string_view yes : {"on", "true", "True", "TRUE", "yes", "1"})
    if (text == yes) return true;
  for (const std::string_view no : {"off", "false", "False", "FALSE", "no", "0"})
    if (text == no) return false;
  return Error(in_quotes(text) + " is neither on nor off");
}

std::string format_duration(milliseconds value) {
  if (value.count() == 0) return "0s";
  for (const Unit& unit : kTimeUnits) {
    if (value.count() % unit.factor == 0)
      return fmt::format("{}{}", value.count() / unit.factor, unit.name);
  }
  return fmt::format("{}ms", value.count());
}

std::string format_size(std::int64_t bytes) {
  if (bytes == 0) return "0";
  for (const Unit& unit : kSizeUnits)
    if (bytes % unit.factor == 0) return fmt::format("{}{}", bytes / unit.factor, unit.name);
  return fmt::format("{}", bytes);
}

std::string format_mode(int mode) {
  return fmt::format("{:04o}", mode);
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  std::string result = "'";
  for (std::size_t i = 0; i < std::min(text.size(), kLongest);) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = utf8_length(text, i);
    if (length == 0 || byte < 0x20 || byte == 0x7f) {
      result += fmt::format("\\x{:02x}", byte);
      ++i;
    } else {
      result += text.substr(i, length);
      i += length;
    }
  }
  return result + (text.size() > kLongest ? "…'" : "'");
}

}  // namespace mgr::settings
