#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace mgr::manager {

// Writes Prometheus' text exposition format, version 0.0.4: families, and after each its samples.
class TextWriter {
 public:
  static constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

  enum class Type { counter, gauge, histogram };
  struct Label {
    std::string_view name;
    std::string_view value;  // any bytes; UTF-8 by the format
  };

  // Names are [a-zA-Z_:][a-zA-Z0-9_:]*, CHECKed.
  void family(std::string_view name, Type type, std::string_view help);
  // One sample of the family that was begun last.
  void sample(double value, std::span<const Label> labels = {});
  void sample(double value, std::initializer_list<Label> labels) {
    sample(value, std::span(labels.begin(), labels.size()));
  }
  // The samples of a histogram: `counts` for each bound, not cumulative, and one for what lies
  // above them all; `bounds` ascend.
  void histogram(std::span<const double> bounds, std::span<const std::uint64_t> counts, double sum);

  std::string take() { return std::move(text_); }

 private:
  void line(std::string_view suffix, std::span<const Label> labels, double value);
  enum class Quotes { kept, escaped };
  void escape(std::string_view text, Quotes quotes);

  std::string family_;
  std::string text_;
};

}  // namespace mgr::manager
