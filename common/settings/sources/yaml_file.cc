#include "common/settings/sources/yaml_file.h"

#include <fmt/core.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <optional>

#include "common/base/utf8.h"
#include "common/settings/table.h"

namespace mgr::settings {
namespace {

constexpr std::size_t kLargestFile = 1 << 20;

// yaml-cpp 0.7 takes a quote that is never closed for a text that ends with the file. A document
// marker cannot stand within quotes, so one more document, put behind the text, brings it to light.
constexpr std::string_view kSentinel = "\n---\nend\n";

class Reader {
 public:
  Reader(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  GivenValues read() {
    if (const std::optional<int> line = first_bad_utf8()) {
      error(*line, "not UTF-8");
    } else {
      parse();
    }
    return std::move(result_);
  }

 private:
  void parse() {
    std::vector<YAML::Node> documents;
    try {
      documents = YAML::LoadAll(std::string(text_) + std::string(kSentinel));
    } catch (const YAML::Exception& exception) {
      bad_yaml(exception);
      return;
    }
    documents.pop_back();
    if (documents.size() > 1) {
      error(documents[1].Mark().line, "a second document; one is allowed");
      return;
    }
    if (documents.empty() || documents.front().IsNull()) return;
    read_root(documents.front());
  }

  void bad_yaml(const YAML::Exception& exception) {
    const int line = std::min(exception.mark.line, last_line());
    const std::string_view indentation =
        line_text(line).substr(0, line_text(line).find_first_not_of(" \t"));
    if (indentation.find('\t') != std::string_view::npos) {
      error(line, "a tab; YAML is indented by spaces alone");
    } else if (exception.msg == "illegal document indicator in scalar") {
      error(line, "not YAML: a quote is not closed");
    } else {
      error(line, "not YAML: " + exception.msg);
    }
  }

  void read_root(const YAML::Node& root) {
    if (!root.IsMap()) {
      error(root.Mark().line, "a map of settings is needed: `name: value` lines");
      return;
    }
    std::map<std::string, int> seen;
    for (const auto& pair : root) read_pair(pair.first, pair.second, seen);
  }

  void read_pair(const YAML::Node& key, const YAML::Node& value, std::map<std::string, int>& seen) {
    // The key's line: that of a value which is null is the next key's.
    const int line = key.Mark().line;
    if (!key.IsScalar()) {
      error(line, "a setting's name must be a plain word");
      return;
    }
    const std::string name = key.Scalar();
    const auto [first, inserted] = seen.emplace(name, line);
    if (!inserted) {
      error(line, fmt::format("{}: given twice, first in line {}", name, first->second + 1));
      return;
    }
    if (!find(name)) {
      error(line, fmt::format("{}: unknown setting; the nearest known one is {}", in_quotes(name),
                              nearest_name(name)));
      return;
    }
    Result<Spelled> spelled = spell(value);
    if (!spelled) {
      error(line, name + ": " + spelled.error().message() + "; allowed: " + find(name)->allowed);
      return;
    }
    result_.values.push_back(
        {name, std::move(*spelled), at(line) + ": " + name, fmt::format("file:{}", line + 1)});
  }

  static Result<Spelled> spell(const YAML::Node& value) {
    if (value.IsScalar()) return Spelled(value.Scalar());
    if (value.IsSequence()) {
      Texts texts;
      for (const YAML::Node& element : value) {
        if (!element.IsScalar()) return Error("an entry of the list is not a single value");
        texts.push_back(element.Scalar());
      }
      return Spelled(std::move(texts));
    }
    if (value.IsMap()) return spell_map(value);
    return Error("no value is given");
  }

  static Result<Spelled> spell_map(const YAML::Node& value) {
    TextMap map;
    for (const auto& pair : value) {
      if (!pair.first.IsScalar()) return Error("a key that is not a plain word");
      const std::string key = pair.first.Scalar();
      if (!pair.second.IsScalar()) return Error(in_quotes(key) + " has no single value");
      if (!map.emplace(key, pair.second.Scalar()).second)
        return Error(in_quotes(key) + " is given twice");
    }
    return Spelled(std::move(map));
  }

  std::string at(int line) const { return fmt::format("{}:{}", file_, line + 1); }

  void error(int line, const std::string& what) {
    result_.errors.push_back(at(std::max(line, 0)) + ": " + what);
  }

  std::string_view line_text(int line) const {
    std::size_t start = 0;
    for (; line > 0 && start != std::string_view::npos; --line) {
      start = text_.find('\n', start);
      if (start != std::string_view::npos) ++start;
    }
    if (start == std::string_view::npos) return {};
    return text_.substr(start, text_.find('\n', start) - start);
  }

  int last_line() const {
    int lines = 0;
    for (std::size_t i = 0; i + 1 < text_.size(); ++i) lines += text_[i] == '\n';
    return lines;
  }

  // Line of the first byte that is no UTF-8: yaml-cpp would quietly replace it.
  std::optional<int> first_bad_utf8() const {
    const std::size_t place = first_not_utf8(text_);
    if (place == std::string_view::npos) return {};
    return static_cast<int>(std::count(text_.begin(), text_.begin() + place, '\n'));
  }

  std::string_view text_;
  const std::string& file_;
  GivenValues result_;
};

}  // namespace

GivenValues read_yaml(std::string_view text, const std::string& file) {
  return Reader(text, file).read();
}

GivenValues read_yaml_file(const std::string& path, const std::string& file, Pipes pipes) {
  const Result<std::string> text =
      read_file(path, {.shown = file, .pipes = pipes, .most = kLargestFile});
  if (text) return read_yaml(*text, file);
  GivenValues result;
  result.errors.push_back(text.error().message());
  return result;
}

}  // namespace mgr::settings
