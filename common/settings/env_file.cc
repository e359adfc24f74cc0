#include "common/settings/env_file.h"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "common/base/read_file.h"
#include "common/base/utf8.h"

namespace mgr {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

bool is_name(std::string_view text) {
  const auto letter = [](char c) {
    return c == '_' || std::isalnum(static_cast<unsigned char>(c));
  };
  return !text.empty() && !std::isdigit(static_cast<unsigned char>(text.front())) &&
         std::all_of(text.begin(), text.end(), letter);
}

Result<std::string> unescape(std::string_view inner) {
  std::string result;
  for (std::size_t i = 0; i < inner.size(); ++i) {
    if (inner[i] == '"') return Error("text behind the closing quote");
    if (inner[i] != '\\' || i + 1 == inner.size()) {
      result += inner[i];
      continue;
    }
    const char next = inner[++i];
    if (next == 'n') {
      result += '\n';
    } else if (next == '"' || next == '\\' || next == '$') {
      result += next;
    } else {
      result += {'\\', next};
    }
  }
  return result;
}

Result<std::string> parse_value(std::string_view text) {
  if (text.empty() || (text.front() != '"' && text.front() != '\'')) return std::string(text);
  const char quote = text.front();
  if (text.size() < 2 || text.back() != quote) return Error("the quote is not closed");
  const std::string_view inner = text.substr(1, text.size() - 2);
  if (quote == '"') return unescape(inner);
  if (inner.find('\'') != std::string_view::npos) return Error("text behind the closing quote");
  return std::string(inner);
}

}  // namespace

Result<std::map<std::string, std::string>> parse_env_file(std::string_view text) {
  std::map<std::string, std::string> variables;
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  std::istringstream lines{std::string(text)};
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string context = std::to_string(++number);
    if (first_not_utf8(line) != std::string::npos) return Error("not UTF-8").with(context);
    std::string_view rest = trimmed(line);
    if (rest.empty() || rest.front() == '#') continue;
    if (rest.starts_with("export ")) rest = trimmed(rest.substr(7));
    const std::size_t equals = rest.find('=');
    const std::string_view name = trimmed(rest.substr(0, equals));
    if (equals == std::string_view::npos || !is_name(name))
      return Error("a line that is not NAME=VALUE").with(context);
    Result<std::string> value = parse_value(trimmed(rest.substr(equals + 1)));
    if (!value) return std::move(value).error().with(context);
    if (value->find('\0') != std::string::npos) return Error("a NUL byte").with(context);
    variables[std::string(name)] = *value;
  }
  return variables;
}

Result<std::map<std::string, std::string>> read_env_file(const std::string& path) {
  const Result<std::string> text = read_file(path, {.shown = path});
  if (!text) return text.error();
  auto variables = parse_env_file(*text);
  if (!variables) return Error(path + ":" + variables.error().message());
  return variables;
}

}  // namespace mgr
