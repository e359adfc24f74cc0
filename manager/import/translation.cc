#include "manager/import/translation.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "common/settings/sources/yaml_output.h"
#include "common/settings/table.h"
#include "manager/import/tables.h"

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
    add_implied(name, value, fmt::format("the default of {}", name_of(given_.server)), remark);
  }

  // Likewise; it follows from `origin`.
  void add_implied(const char* name, const std::string& value, const std::string& origin,
                   const std::string& remark) {
    if (entries_.contains(name)) return;
    const Setting* target = settings::find(name);
    if (!target->apply(Spelled(value), values_)) return;
    entries_[name].beside = origin;
    entries_[name].above = remark;
  }

  // A remark above a setting that is there.
  void warn(const char* name, std::string_view remark) {
    const auto found = entries_.find(name);
    if (found == entries_.end()) return;
    std::string& above = found->second.above;
    above += (above.empty() ? "" : "; ") + std::string(remark);
  }

  void add_interpreter(const std::string& python) {
    if (python.empty() || !settings::find("python")->apply(Spelled(python), values_)) return;
    entries_["python"].beside = "as the command line names it";
  }

  bool has(const char* name) const { return entries_.contains(name); }
  bool has_refused(std::string_view target) const { return refused_.contains(target); }
  const Settings& values() const { return values_; }
  void say(const std::string& line) { tail_ += (tail_.empty() ? "" : "\n") + wrapped(line); }
  // A line among those of what has no equivalent.
  void say_lacking(const std::string& line) {
    if (tail_.empty()) tail_ = "Without an equivalent:";
    say("- " + line);
  }

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
    refused_.insert(foreign.target);
    say_lacking(fmt::format("{} = {}: {}", foreign.name, shown(value), why));
  }

  const Given& given_;
  Settings values_;
  std::map<std::string, Comments> entries_;
  std::set<std::string_view> refused_;  // targets
  std::string tail_;
};

bool is_wsgi_worker(const Given& given) {
  const auto found = given.values.find("worker_class");
  if (found == given.values.end() || !found->second.is_string()) return true;
  const auto name = found->second.get<std::string>();
  return name == "sync" || name.find("gthread") != std::string::npos;
}

// The permissions that they give a Unix socket; mgr's own let in one group alone.
void add_socket_mode(const Given& given, Translation& translation) {
  const auto& binds = translation.values().bind;
  if (!translation.has("bind") || std::none_of(binds.begin(), binds.end(), [](const auto& bind) {
        return bind.starts_with("unix:/");
      })) {
    return;
  }
  constexpr const char* kWho =
      "everyone on the machine may connect; `socket_mode: 0660` and `socket_group: www-data` let "
      "in nginx alone";
  const int mask = translation.has("umask") ? translation.values().umask : 0;
  if (given.server == Server::uvicorn) {
    translation.add_default("socket_mode", "0666", kWho);
  } else if (given.server == Server::gunicorn || translation.has("umask")) {
    translation.add_implied(
        "socket_mode", fmt::format("{:04o}", 0777 & ~mask),
        translation.has("umask") ? "what `umask` leaves of it" : "the default of Gunicorn",
        (mask & 2) == 0 ? kWho : "");
  }
}

void add_defaults(const Given& given, const settings::Environment& variables,
                  Translation& translation) {
  const auto concurrency = variables.find("WEB_CONCURRENCY");
  if (concurrency == variables.end() || concurrency->second.empty()) {
    const bool reads = given.server == Server::gunicorn || given.server == Server::uvicorn;
    translation.add_default(
        "workers", "1",
        fmt::format("`auto` would be one for each CPU, for an application that keeps nothing in "
                    "memory that all must see{}",
                    reads ? "; where WEB_CONCURRENCY is set, take this line away: it wins" : ""));
  }
  add_socket_mode(given, translation);
  if (given.server == Server::gunicorn && is_wsgi_worker(given)) {
    translation.add_default("threads", "1",
                            "for WSGI: 4, the default of mgr, serves others while one waits");
  }
  if (given.server == Server::gunicorn && !given.values.contains("secure_scheme_headers")) {
    translation.say_lacking(
        "secure_scheme_headers, by default: of trusted proxies, X-Forwarded-Proto tells the "
        "scheme, not X-Forwarded-Protocol or X-Forwarded-Ssl");
  }
  if (given.server == Server::uvicorn) {
    translation.add_default("access_log", "-", "the combined format");
    translation.add_implied("graceful_timeout", "30s", "the default of mgr",
                            "Uvicorn waits as long as a request takes, or somebody kills it");
  }
  for (const char* certificate : {"certfile", "ssl_certfile", "ssl_certificate"}) {
    const auto found = given.values.find(certificate);
    if (found != given.values.end() && !found->second.is_null()) {
      translation.warn("bind",
                       "PLAIN HTTP, not TLS: there is none in this version, let nginx end it");
    }
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
  if (!given.skipped.empty()) {
    translation.say_lacking(
        fmt::format("{}, before {}: not taken over, put it before `mgr run` where it is needed",
                    settings::in_quotes(given.skipped), name_of(given.server)));
  }
  if (!translation.has("app") && !translation.has_refused("app")) {
    translation.say(
        "The application was not named: write `app: module:attribute` here, or give it to "
        "`mgr run`.");
  }
  return translation.write("Made by `mgr import` from " + source + ".");
}

}  // namespace mgr::foreign
