#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/result.h"

namespace mgr::settings {

using Texts = std::vector<std::string>;
using TextMap = std::map<std::string, std::string>;

// A value as a source spells it. Sources know no types, only shapes; the table reads the texts.
using Spelled = std::variant<std::string, Texts, TextMap>;

// "a text", "a list", "a map": for messages.
std::string_view shape_name(const Spelled& value);

// A JSON value as texts: numbers and booleans as the file would spell them. Errors: null, or nested
// deeper than a list or map of scalars.
Result<Spelled> spelled_from_json(const nlohmann::json& value);

// The spellings of scalars. Errors say what is wrong with the text, without naming the setting.

// `500ms`, `30s`, `5m`, `2h`, plain seconds; fractions are allowed, down to a millisecond.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);
// `8190`, `64k`, `16m`, `1g` (powers of 1024), in bytes.
Result<std::int64_t> parse_size(std::string_view text);
// Decimal, with an optional minus.
Result<std::int64_t> parse_integer(std::string_view text);
// Octal permission bits: `0660`, `660`, `0o660`.
Result<int> parse_mode(std::string_view text);
// on, off, true, false (as YAML 1.2 spells them: also True, TRUE, …), yes, no, 1, 0.
Result<bool> parse_switch(std::string_view text);

// The shortest spelling that the parsers above take back to the same value.
std::string format_duration(std::chrono::milliseconds value);
std::string format_size(std::int64_t bytes);
std::string format_mode(int mode);

// 'text', for messages: cut where it is long; control characters and what is no UTF-8 are escaped,
// so that it stays one line.
std::string in_quotes(std::string_view text);

}  // namespace mgr::settings
