#include "manager/import/translation.h"

#include <fmt/core.h>

#include <map>
#include <sstream>

#include "common/settings/sources/yaml_output.h"
#include "common/settings/table.h"

namespace mgr::foreign {
namespace {

using nlohmann::json;
using settings::CommentedSetting;
using settings::Setting;
using settings::Spelled;

constexpr std::size_t kLongestValue = 120;
constexpr std::size_t kWidth = 98;

// A value as it was given, on one line, for a comment.
std::string shown(const json& value) {
  if (value.is_null()) return "None";
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() <= kLongestValue) return text;
  std::size_t end = kLongestValue;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // UTF-8
  return text.substr(0, end) + " …";
}

// Lines of at most kWidth, all but the first indented.
std::string wrapped(const std::string& text) {
  std::string lines;
  std::size_t column = 0;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (column > 0 && column + 1 + word.size() > kWidth) {
      lines += "\n  ";
      column = 2;
    } else if (column > 0) {
      lines += ' ';
      ++column;
    }
    lines += word;
    column += word.size();
  }
  return lines;
}

// Collects what becomes of each value.
class Translation {
 public:
  explicit Translation(const Given& given) : given_(given) {}

  void add(const ForeignSetting& foreign, const json& value) {
    if (value.is_null()) return refuse(foreign, value, "nothing to set");
    if (!foreign.convert) return refuse(foreign, value, std::string(foreign.remark));
    const Converted converted = foreign.convert(given_, value);
    const std::string remark =
        converted.remark.empty() ? std::string(foreign.remark) : converted.remark;
    if (!converted.value) return refuse(foreign, value, remark);
    const Setting* target = settings::find(foreign.target);
    if (!target) {
      return refuse(foreign, value,
                    fmt::format("there is no `{}` in this version", foreign.target));
    }
    if (Result<void> applied = target->apply(*converted.value, values_); !applied) {
      return refuse(foreign, value,
                    fmt::format("`{}`: {}", foreign.target, applied.error().message()));
    }
    const std::string origin = fmt::format("{} = {}", foreign.name, shown(value));
    std::string& beside = entries_[target->name].beside;
    beside += (beside.empty() ? "" : ", ") + origin;
    if (!remark.empty()) entries_[target->name].above = remark;
  }

  // A value that nobody gave, unless it is there already.
  void add_default(const char* name, const char* value, const std::string& remark) {
    if (entries_.contains(name)) return;
    const Setting* target = settings::find(name);
    if (!target->apply(Spelled(value), values_)) return;
    entries_[name].beside = fmt::format("the default of {}", name_of(given_.server));
    entries_[name].above = remark;
  }

  void add_interpreter(const std::string& python) {
    if (python.empty() || !settings::find("python")->apply(Spelled(python), values_)) return;
    entries_["python"].beside = "as the command line names it";
  }

  bool has(const char* name) const { return entries_.contains(name); }
  void say(const std::string& line) { tail_ += (tail_.empty() ? "" : "\n") + wrapped(line); }

  std::string write(const std::string& head) const {
    std::vector<CommentedSetting> lines;
    for (const Setting& setting : settings::table()) {
      const auto found = entries_.find(setting.name);
      if (found == entries_.end()) continue;
      lines.push_back({setting.name, setting.write(values_), wrapped(found->second.above),
                       found->second.beside});
    }
    return settings::write_yaml(head, lines, tail_);
  }

 private:
  struct Comments {
    std::string above;
    std::string beside;
  };

  void refuse(const ForeignSetting& foreign, const json& value, const std::string& why) {
    if (tail_.empty()) tail_ = "Without an equivalent:";
    say(fmt::format("- {} = {}: {}", foreign.name, shown(value), why));
  }

  const Given& given_;
  Settings values_;
  std::map<std::string, Comments> entries_;
  std::string tail_;
};

bool is_wsgi_worker(const Given& given) {
  const auto found = given.values.find("worker_class");
  if (found == given.values.end() || !found->second.is_string()) return true;
  const auto name = found->second.get<std::string>();
  return name == "sync" || name.find("gthread") != std::string::npos;
}

void add_defaults(const Given& given, const settings::Environment& variables,
                  Translation& translation) {
  const auto concurrency = variables.find("WEB_CONCURRENCY");
  if (concurrency == variables.end() || concurrency->second.empty()) {
    translation.add_default("workers", "1",
                            "`auto` would be one for each CPU, for an application that keeps "
                            "nothing in memory that all must see");
  }
  if (given.server == Server::gunicorn && is_wsgi_worker(given)) {
    translation.add_default("threads", "1",
                            "for WSGI: 4, the default of mgr, serves others while one waits");
  }
  if (given.server == Server::uvicorn) {
    translation.add_default("access_log", "-", "the combined format");
  }
  if (given.server == Server::granian && !given.values.contains("interface")) {
    translation.say(
        "Granian takes an application for RSGI where nothing else is said; mgr speaks ASGI and "
        "WSGI.");
  }
}

}  // namespace

std::string translate(const Given& given, const std::string& source, const std::string& python,
                      const settings::Environment& variables) {
  Translation translation(given);
  translation.add_interpreter(python);
  for (const ForeignSetting& foreign : foreign_settings(given.server)) {
    const auto found = given.values.find(std::string(foreign.name));
    if (found != given.values.end()) translation.add(foreign, found->second);
  }
  add_defaults(given, variables, translation);
  if (!translation.has("app")) {
    translation.say(
        "The application was not named: write `app: module:attribute` here, or give it to "
        "`mgr run`.");
  }
  return translation.write("Made by `mgr import` from " + source + ".");
}

}  // namespace mgr::foreign
