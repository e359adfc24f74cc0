#include "manager/supervisor/text_writer.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/base/check.h"

namespace mgr::manager {
namespace {

bool is_name(std::string_view text) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
  };
  const auto allowed = [&](char c) { return letter(c) || (c >= '0' && c <= '9'); };
  return !text.empty() && letter(text.front()) && std::all_of(text.begin(), text.end(), allowed);
}

std::string_view to_string(TextWriter::Type type) {
  switch (type) {
    case TextWriter::Type::counter:
      return "counter";
    case TextWriter::Type::gauge:
      return "gauge";
    case TextWriter::Type::histogram:
      return "histogram";
  }
  return "untyped";
}

std::string formatted(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

}  // namespace

void TextWriter::family(std::string_view name, Type type, std::string_view help) {
  CHECK(is_name(name));
  family_ = name;
  text_.append("# HELP ").append(name).append(" ");
  escape(help, Quotes::kept);
  text_.append("\n# TYPE ").append(name).append(" ").append(to_string(type)).append("\n");
}

void TextWriter::sample(double value, std::span<const Label> labels) {
  line("", labels, value);
}

void TextWriter::histogram(std::span<const double> bounds, std::span<const std::uint64_t> counts,
                           double sum) {
  CHECK(counts.size() == bounds.size() + 1);
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    below += counts[i];
    const bool last = i == bounds.size();
    const std::string bound = formatted(last ? std::numeric_limits<double>::infinity() : bounds[i]);
    const Label label{"le", bound};
    line("_bucket", {&label, 1}, static_cast<double>(below));
  }
  line("_sum", {}, sum);
  line("_count", {}, static_cast<double>(below));
}

void TextWriter::line(std::string_view suffix, std::span<const Label> labels, double value) {
  CHECK(!family_.empty());
  text_.append(family_).append(suffix);
  char before = '{';
  for (const Label& label : labels) {
    CHECK(is_name(label.name));
    text_.push_back(before);
    text_.append(label.name).append("=\"");
    escape(label.value, Quotes::escaped);
    text_.push_back('"');
    before = ',';
  }
  if (before == ',') text_.push_back('}');
  text_.append(" ").append(formatted(value)).append("\n");
}

// Line ends and backslashes would break a line; in a label's value quotation marks too.
void TextWriter::escape(std::string_view text, Quotes quotes) {
  for (const char c : text) {
    if (c == '\n') {
      text_.append("\\n");
    } else if (c == '\\' || (c == '"' && quotes == Quotes::escaped)) {
      text_.push_back('\\');
      text_.push_back(c);
    } else {
      text_.push_back(c);
    }
  }
}

}  // namespace mgr::manager
