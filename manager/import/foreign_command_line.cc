#include "manager/import/foreign_command_line.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <span>
#include <string_view>

namespace mgr::foreign {
namespace {

using nlohmann::json;
using Words = std::span<const std::string>;

std::string_view file_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

std::string_view directory_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

std::optional<Server> server_named(std::string_view name) {
  if (name == "gunicorn") return Server::gunicorn;
  if (name == "uvicorn") return Server::uvicorn;
  if (name == "hypercorn") return Server::hypercorn;
  if (name == "granian") return Server::granian;
  return {};
}

// python, python3, python3.12
bool is_python(std::string_view name) {
  if (!name.starts_with("python")) return false;
  name.remove_prefix(6);
  return std::all_of(name.begin(), name.end(), [](char c) {
    return c == '.' || std::isdigit(static_cast<unsigned char>(c));
  });
}

Error no_server(const std::string& what) {
  return Error(what +
               "; allowed: gunicorn …, uvicorn …, hypercorn …, granian …, and python -m before "
               "them");
}

const char* name_of_application(Server server) {
  switch (server) {
    case Server::gunicorn:
      return "wsgi_app";
    case Server::hypercorn:
      return "application_path";
    case Server::uvicorn:
    case Server::granian:
      return "app";
  }
  return "";
}

// One of the words in a list with spaces between.
bool lists(std::string_view words, std::string_view wanted) {
  while (!words.empty()) {
    const std::size_t space = words.find(' ');
    if (words.substr(0, space) == wanted) return true;
    words.remove_prefix(space == std::string_view::npos ? words.size() : space + 1);
  }
  return false;
}

// A flag of the table, and whether it means the contrary.
struct Flag {
  const ForeignSetting* setting = nullptr;
  bool off = false;
};

// Whether one of the flags begins with `start`, for argparse, which takes what is unambiguous.
bool has_start(std::string_view words, std::string_view start) {
  while (!words.empty()) {
    const std::size_t space = words.find(' ');
    if (words.substr(0, space).starts_with(start)) return true;
    words.remove_prefix(space == std::string_view::npos ? words.size() : space + 1);
  }
  return false;
}

std::optional<Flag> find_flag(Server server, std::string_view name) {
  std::optional<Flag> shortened;
  int matches = 0;
  for (const ForeignSetting& setting : foreign_settings(server)) {
    if (lists(setting.flags, name)) return Flag{&setting, false};
    if (lists(setting.off_flags, name)) return Flag{&setting, true};
    const bool on = has_start(setting.flags, name);
    if (!on && !has_start(setting.off_flags, name)) continue;
    shortened = Flag{&setting, !on};
    ++matches;
  }
  const bool argparse = server == Server::gunicorn || server == Server::hypercorn;
  const bool may_be_short = argparse && name.size() > 2;
  return matches == 1 && may_be_short ? shortened : std::nullopt;
}

class Parser {
 public:
  Parser(Server server, Words words) : words_(words) { given_.server = server; }

  Result<Given> parse() {
    while (!words_.empty()) {
      const std::string word = take();
      Result<void> taken;
      if (word == "--") {
        while (taken && !words_.empty()) taken = take_argument(take());
      } else if (word.starts_with("--")) {
        taken = take_long(word);
      } else if (word.size() > 1 && word.starts_with('-')) {
        taken = take_short(word);
      } else {
        taken = take_argument(word);
      }
      if (!taken) return std::move(taken).error();
    }
    return std::move(given_);
  }

 private:
  std::string take() {
    const std::string word = words_.front();
    words_ = words_.subspan(1);
    return word;
  }

  Error unknown(const std::string& flag) const {
    return Error(fmt::format("{} is no flag of {} that mgr knows", settings::in_quotes(flag),
                             name_of(given_.server)));
  }

  // --flag, --flag VALUE, --flag=VALUE
  Result<void> take_long(const std::string& word) {
    const std::size_t sign = word.find('=');
    const std::string name = word.substr(0, sign);
    const auto flag = find_flag(given_.server, name);
    if (!flag) return unknown(name);
    std::optional<std::string> value;
    if (sign != std::string::npos) value = word.substr(sign + 1);
    return set(*flag, name, value);
  }

  // -w 4, -w4, -w=4; switches may stand together.
  Result<void> take_short(const std::string& word) {
    for (std::size_t i = 1; i < word.size(); ++i) {
      const std::string name{'-', word[i]};
      const auto flag = find_flag(given_.server, name);
      if (!flag) return unknown(name);
      if (flag->setting->takes == Takes::nothing) {
        if (Result<void> done = set(*flag, name, {}); !done) return done;
        continue;
      }
      std::string rest = word.substr(i + 1);
      if (rest.starts_with('=')) rest.erase(0, 1);
      return set(*flag, name, rest.empty() ? std::nullopt : std::optional(rest));
    }
    return {};
  }

  Result<void> set(const Flag& flag, const std::string& name, std::optional<std::string> value) {
    json& entry = given_.values[std::string(flag.setting->name)];
    switch (flag.setting->takes) {
      case Takes::nothing:
        if (value) return Error(fmt::format("{} takes no value", settings::in_quotes(name)));
        entry = !flag.off;
        return {};
      case Takes::optional_value:
        entry = value ? *value : next_version();
        return {};
      case Takes::value:
      case Takes::values:
        if (!value && words_.empty()) return Error(settings::in_quotes(name) + " needs a value");
        if (!value) value = take();
        if (flag.setting->takes == Takes::value) {
          entry = *value;
        } else {
          entry.push_back(*value);
        }
        return {};
    }
    return {};
  }

  std::string next_version() {
    constexpr std::array<std::string_view, 4> kVersions{"off", "v1", "v2", "auto"};
    const bool named = !words_.empty() && std::find(kVersions.begin(), kVersions.end(),
                                                    words_.front()) != kVersions.end();
    return named ? take() : "auto";
  }

  Result<void> take_argument(const std::string& word) {
    const char* const name = name_of_application(given_.server);
    if (given_.values.contains(name))
      return Error(fmt::format("argument {} is one too many", settings::in_quotes(word)));
    given_.values[name] = word;
    return {};
  }

  Given given_;
  Words words_;
};

// The words of a text, as a shell has them (shlex.split() of Python). Errors: an open quote.
Result<std::vector<std::string>> split_words(const std::string& text) {
  std::vector<std::string> words;
  bool within = false;
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (!quote && (c == ' ' || c == '\t' || c == '\n')) {
      within = false;
      continue;
    }
    if (!within) words.emplace_back();
    within = true;
    if (quote && c == quote) {
      quote = 0;
    } else if (!quote && (c == '"' || c == '\'')) {
      quote = c;
    } else if (c == '\\' && quote != '\'' && i + 1 < text.size()) {
      words.back() += text[++i];
    } else {
      words.back() += c;
    }
  }
  if (quote) return Error("a quote is not closed");
  return words;
}

}  // namespace

Result<ForeignCommandLine> parse_foreign(const std::vector<std::string>& given_words,
                                         const std::string& directory) {
  std::vector<std::string> words = given_words;
  if (words.size() == 1) {  // all of them in quotes
    Result<std::vector<std::string>> split = split_words(words.front());
    if (!split) return std::move(split).error();
    words = std::move(*split);
  }
  if (words.empty()) return no_server("no command line is given");
  const auto program = std::find_if(words.begin(), words.end(), [](const std::string& word) {
    return server_named(file_name(word)).has_value();
  });
  if (program == words.end())
    return no_server(settings::in_quotes(words.front()) + " starts no server that mgr knows");
  const bool is_module = program != words.begin() && *(program - 1) == "-m";
  auto before_end = is_module ? program - 1 : program;
  std::string python;
  if (is_module) {
    // Python, and flags of its own.
    const auto interpreter = std::find_if(words.begin(), before_end, [](const std::string& word) {
      return is_python(file_name(word));
    });
    if (interpreter != before_end && interpreter->find('/') != std::string::npos)
      python = *interpreter;
    before_end = interpreter;
  } else if (const std::string_view bin = directory_name(*program); !bin.empty()) {
    python = std::string(bin) + "/python3";
  }
  Result<Given> given =
      Parser(*server_named(file_name(*program)), Words(program + 1, words.end())).parse();
  if (!given) return std::move(given).error();
  given->directory = directory;
  given->skipped = fmt::format("{}", fmt::join(words.begin(), before_end, " "));
  return ForeignCommandLine{std::move(*given), python};
}

Result<Given> foreign_environment(Server server, const settings::Environment& variables) {
  Given given;
  given.server = server;
  if (server != Server::uvicorn && server != Server::granian) return given;
  for (const ForeignSetting& setting : foreign_settings(server)) {
    if (setting.flags.empty()) continue;
    std::string name = server == Server::uvicorn ? "UVICORN_" : "GRANIAN_";
    for (const char c : setting.name)
      name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    if (setting.takes == Takes::values && server == Server::uvicorn) name += 'S';
    const auto found = variables.find(name);
    if (found == variables.end() || found->second.empty()) continue;
    json& entry = given.values[std::string(setting.name)];
    if (setting.takes == Takes::values) {
      auto words = split_words(found->second);
      if (!words) return std::move(words).error().with(name);
      entry = *words;
    } else if (setting.takes == Takes::nothing) {
      auto on = settings::parse_switch(found->second);
      if (!on) return std::move(on).error().with(name);
      entry = *on;
    } else {
      entry = found->second;
    }
  }
  return given;
}

Result<Given> parse_gunicorn_flags(const std::string& text) {
  const auto words = split_words(text);
  if (!words) return words.error();
  return Parser(Server::gunicorn, *words).parse();
}

}  // namespace mgr::foreign
