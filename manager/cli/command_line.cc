#include "manager/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include "common/settings/table.h"

namespace mgr::cli {
namespace {

using settings::Setting;
using settings::Shape;
using settings::Texts;

constexpr int kMostWorkers = 512;

struct VerbName {
  Verb verb;
  const char* name;
  const char* help;
};

constexpr VerbName kVerbs[] = {
    {Verb::run, "run", "Run the supervisor in the foreground until it is told to stop"},
    {Verb::check, "check", "Validate every setting and load the application, then leave"},
    {Verb::config, "config", "Print every effective setting with its origin"},
    {Verb::status, "status", "Show the supervisor and its workers"},
    {Verb::metrics, "metrics", "Print the numbers of the service, as Prometheus reads them"},
    {Verb::ready, "ready", "Exit with 0 if the service is ready, else with 1 and the reason"},
    {Verb::scale, "scale", "Set the number of workers"},
    {Verb::reload, "reload",
     "Re-read the configuration and replace every worker, losing no request"},
    {Verb::restart, "restart", "Replace workers by new ones of the same generation"},
    {Verb::stack, "stack",
     "Show what a worker executes right now: its threads and asyncio's tasks"},
    {Verb::stop, "stop", "Stop the supervisor gracefully, and wait for it"},
    {Verb::upgrade, "upgrade",
     "Replace the running supervisor by the program on disk, losing no request"},
    {Verb::import_settings, "import",
     "Print the mgr.yaml that equals a Gunicorn configuration file, or (behind --) a command line "
     "of Gunicorn, Uvicorn, Hypercorn or Granian"},
    {Verb::drain, "drain", "Fail readiness and end connections, while requests are still served"},
    {Verb::undrain, "undrain", "Undo mgr drain"},
    {Verb::reopen, "reopen", "Open the log files anew, after they were moved away"},
    {Verb::log_level, "log-level",
     "Set the least severe level that is logged, until it is reloaded"},
    {Verb::events, "events", "Print what happens, a line an event, until the supervisor ends"},
    {Verb::version, "version", "Print the versions of mgr and its libraries"},
};

bool takes_settings(Verb verb) {
  return verb == Verb::run || verb == Verb::check || verb == Verb::config;
}

// Descriptions are broken by hand: CLI11 indents lines but does not break them.
std::string wrapped(const std::string& text) {
  constexpr std::size_t kWidth = 64;
  std::string result;
  std::size_t column = 0;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (column > 0 && column + 1 + word.size() > kWidth) {
      result += '\n';
      column = 0;
    } else if (column > 0) {
      result += ' ';
      ++column;
    }
    result += word;
    column += word.size();
  }
  return result;
}

std::string plain(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.empty() ? "" : value.dump();
  std::string text;
  for (const nlohmann::json& element : value)
    text += (text.empty() ? "" : ",") + element.get<std::string>();
  return text;
}

std::string describe(const Setting& setting) {
  std::string text = setting.help;
  text.erase(std::remove(text.begin(), text.end(), '`'), text.end());
  text += " [" + setting.type + ": " + setting.allowed;
  const std::string usual = plain(setting.write(Settings{}));
  return wrapped(text + (usual.empty() ? "]" : "; default " + usual + "]"));
}

// What the options of one command are read into.
struct Storage {
  std::map<std::string, std::string> scalars;
  std::map<std::string, settings::Texts> lists;
  std::string file, control, instance, scale, level, import_file;
  std::vector<std::string> slots;
  bool json = false, schema = false, reference = false, now = false;
};

CLI::Option* add_setting(CLI::App& command, const Setting& setting, Storage& storage) {
  const std::string names = setting.name == "app" ? "APP,--app" : setting.flag();
  CLI::Option* option =
      setting.shape == Shape::scalar
          ? command.add_option(names, storage.scalars[setting.name], describe(setting))
          : command.add_option(names, storage.lists[setting.name], describe(setting));
  option->group(std::string(settings::group_title(setting.group)))->allow_extra_args(false);
  option->type_name(setting.shape == Shape::map ? "KEY=VALUE" : "VALUE");
  return option;
}

void add_arguments(CLI::App& command, Verb verb, Storage& storage) {
  if (verb == Verb::version) return;
  if (verb == Verb::import_settings) {
    command.add_option("FILE", storage.import_file,
                       "A Gunicorn configuration file, or a TOML file of Hypercorn");
    command.footer(
        "mgr import gunicorn.conf.py\nmgr import -- gunicorn main:app -w 4 --timeout 60");
    return;
  }
  command.add_option("-c,--config", storage.file, "Configuration file")->type_name("FILE");
  if (takes_settings(verb)) {
    for (const Setting& setting : settings::table()) add_setting(command, setting, storage);
  } else {
    command.add_option("--control", storage.control, "Control socket of the supervisor")
        ->type_name("PATH");
    command.add_option("-i,--instance", storage.instance, "Name of the supervisor")
        ->type_name("NAME");
  }
  if (verb == Verb::status || verb == Verb::events)
    command.add_flag("--json", storage.json, "Print JSON");
  if (verb == Verb::stop)
    command.add_flag("--now", storage.now, "Cut the requests in flight instead of finishing them");
  if (verb == Verb::scale) {
    command.add_option("NUMBER", storage.scale, "1 to 512, or +N or -N relative to now")
        ->required();
  }
  if (verb == Verb::log_level)
    command.add_option("LEVEL", storage.level, settings::find("log_level")->allowed)->required();
  if (verb == Verb::restart)
    command.add_option("SLOT", storage.slots, "Slots whose workers are replaced; none: all");
  if (verb == Verb::stack) {
    command.add_option("SLOT", storage.slots, "Slot of the worker")
        ->required()
        ->expected(1)
        ->allow_extra_args(false);
  }
  if (verb == Verb::config) {
    command.add_flag("--json", storage.json, "Print JSON");
    command.add_flag("--schema", storage.schema, "Print the JSON Schema of the file");
    command.add_flag("--reference", storage.reference, "Print the README's reference of settings");
  }
}

EarlyExit usage(const std::string& command, const std::string& what) {
  std::string line = command.empty() ? "mgr: " : "mgr " + command + ": ";
  return {kUsageError,
          line + what + "; see mgr " + command + (command.empty() ? "" : " ") + "--help\n"};
}

std::optional<int> parse_digits(std::string_view text, int most) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return {};
  if (text.front() == '-' || number > most) return {};
  return number;
}

std::optional<ScaleRequest> parse_scale(const std::string& text) {
  const bool relative = text.starts_with('+') || text.starts_with('-');
  const std::string_view digits = std::string_view(text).substr(relative ? 1 : 0);
  const std::optional<int> number = parse_digits(digits, kMostWorkers);
  if (!number || *number == 0) return {};
  return ScaleRequest{relative, text.starts_with('-') ? -*number : *number};
}

std::string nearest_option(const CLI::App& command, const std::string& unknown) {
  const std::string name = unknown.substr(0, unknown.find('='));
  if (!name.starts_with("--")) return "";
  const Setting* nearest = settings::find(settings::nearest_name(name.substr(2)));
  if (!command.get_option_no_throw(nearest->flag())) return "";
  if (nearest->flag() == name) return "; it comes after the command";
  return "; the nearest known one is " + nearest->flag();
}

// The argument that belongs to nothing, and whether it was meant as a flag: behind "--" none is.
struct Extra {
  std::string text;
  bool flag = false;
};

Extra first_extra(const std::vector<std::string>& extras) {
  const auto mark = std::find(extras.begin(), extras.end(), "--");
  const auto flag = std::find_if(extras.begin(), mark,
                                 [](const std::string& text) { return text.starts_with('-'); });
  if (flag != mark) return {*flag, true};
  const auto first = mark == extras.begin() && mark != extras.end() ? mark + 1 : extras.begin();
  return {first == extras.end() ? "" : *first};
}

// The line for arguments that belong to nothing.
EarlyExit unknown_argument(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  const Extra extra = first_extra(app.remaining(true));
  const std::string name = settings::in_quotes(extra.text);
  if (chosen.empty()) return usage("", (extra.flag ? "unknown flag " : "unknown command ") + name);
  const CLI::App& command = *chosen.front();
  if (!extra.flag) return usage(command.get_name(), "argument " + name + " is one too many");
  return usage(command.get_name(), "unknown flag " + name + nearest_option(command, extra.text));
}

// The line for a flag without a value, or with more than one.
EarlyExit wrong_count(const CLI::App& app, const std::string& otherwise) {
  const auto chosen = app.get_subcommands();
  const std::string name = otherwise.substr(0, otherwise.find(':'));
  if (chosen.empty() || !name.starts_with("--")) return usage("", otherwise);
  const Setting* setting = settings::find(settings::nearest_name(name.substr(2)));
  const CLI::Option* option = chosen.front()->get_option_no_throw(name);
  if (!option) return usage(chosen.front()->get_name(), otherwise);
  const std::string allowed = setting->flag() == name ? "; allowed: " + setting->allowed : "";
  std::string values;
  for (const std::string& value : option->results())
    values += (values.empty() ? "" : " and ") + settings::in_quotes(value);
  const bool twice = option->results().size() > 1;
  return usage(
      chosen.front()->get_name(),
      name + (twice ? ": " + values + ": it is given more than once" : ": no value is given") +
          allowed);
}

std::optional<std::string> given(const CLI::App& command, const char* option,
                                 const std::string& value) {
  const CLI::Option* found = command.get_option_no_throw(option);
  if (!found || found->count() == 0) return {};
  return value;
}

// What stands behind `--` of `mgr import`: flags of another program, not to be read here.
std::optional<Texts> take_foreign(Texts& arguments) {
  if (arguments.empty() || arguments.front() != "import") return {};
  const auto mark = std::find(arguments.begin(), arguments.end(), "--");
  if (mark == arguments.end()) return {};
  Texts foreign(mark + 1, arguments.end());
  arguments.erase(mark, arguments.end());
  return foreign;
}

class Parser {
 public:
  Parser() {
    app_.description("Serves a web application on every core of a machine.");
    app_.add_flag("--version", version_, "Print the version");
    for (const VerbName& verb : kVerbs) {
      CLI::App* command = app_.add_subcommand(verb.name, verb.help);
      add_arguments(*command, verb.verb, storages_[verb.verb]);
    }
  }

  std::variant<CommandLine, EarlyExit> parse(std::vector<std::string> arguments) {
    const std::optional<Texts> foreign = take_foreign(arguments);
    try {
      std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
      app_.parse(std::move(arguments));
    } catch (const CLI::CallForHelp&) {
      if (app_.get_subcommands().empty() && !app_.remaining(true).empty())
        return unknown_argument(app_);
      return EarlyExit{0, app_.help()};
    } catch (const CLI::ExtrasError&) {
      return unknown_argument(app_);
    } catch (const CLI::ArgumentMismatch& error) {
      return wrong_count(app_, error.what());
    } catch (const CLI::Error& error) {
      const auto chosen = app_.get_subcommands();
      return usage(chosen.empty() ? "" : chosen.front()->get_name(), error.what());
    }
    auto parsed = result();
    auto* line = std::get_if<CommandLine>(&parsed);
    return line && line->verb == Verb::import_settings ? with_import(*line, foreign) : parsed;
  }

 private:
  std::variant<CommandLine, EarlyExit> result() const {
    const auto chosen = app_.get_subcommands();
    if (chosen.empty()) {
      if (version_) return CommandLine{};
      return usage("", "a command is needed");
    }
    if (chosen.size() > 1) return usage("", "one command at a time");
    const std::string name = chosen.front()->get_name();
    const auto verb = std::find_if(std::begin(kVerbs), std::end(kVerbs),
                                   [&](const VerbName& known) { return known.name == name; });
    return read(*chosen.front(), verb->verb);
  }

  std::variant<CommandLine, EarlyExit> read(const CLI::App& command, Verb verb) const {
    const Storage& storage = storages_.at(verb);
    CommandLine line;
    line.verb = verb;
    line.json = storage.json;
    line.now = storage.now;
    line.file = given(command, "--config", storage.file);
    line.import_file = given(command, "FILE", storage.import_file);
    if (takes_settings(verb)) {
      line.values = values(command);
    } else {
      line.target = {given(command, "--control", storage.control),
                     given(command, "--instance", storage.instance), line.file};
    }
    if (verb == Verb::config) return with_output(line, storage);
    if (verb == Verb::scale) return with_scale(line, storage);
    if (verb == Verb::log_level) return with_level(line, storage);
    if (verb == Verb::restart || verb == Verb::stack) return with_slots(line, storage, command);
    return line;
  }

  static CommandLineValues values(const CLI::App& command) {
    CommandLineValues values;
    for (const Setting& setting : settings::table()) {
      const CLI::Option* option = command.get_option(setting.flag());
      if (option->count() > 0) values[setting.name] = option->results();
    }
    return values;
  }

  static std::variant<CommandLine, EarlyExit> with_output(CommandLine line,
                                                          const Storage& storage) {
    if (storage.json + storage.schema + storage.reference > 1)
      return usage("config", "--json, --schema and --reference exclude each other");
    line.output = storage.json        ? ConfigOutput::json
                  : storage.schema    ? ConfigOutput::schema
                  : storage.reference ? ConfigOutput::reference
                                      : ConfigOutput::text;
    return line;
  }

  static std::variant<CommandLine, EarlyExit> with_scale(CommandLine line, const Storage& storage) {
    const std::optional<ScaleRequest> request = parse_scale(storage.scale);
    if (!request) {
      return EarlyExit{kUsageError,
                       "mgr scale: " + settings::in_quotes(storage.scale) +
                           " is not a number, or out of range; allowed: 1 to 512, or +N "
                           "or -N\n"};
    }
    line.scale = *request;
    return line;
  }

  static std::variant<CommandLine, EarlyExit> with_level(CommandLine line, const Storage& storage) {
    Settings scratch;
    const auto read = settings::find("log_level")->apply(storage.level, scratch);
    if (!read) return EarlyExit{kUsageError, "mgr log-level: " + read.error().message() + "\n"};
    line.level = storage.level;
    return line;
  }

  static std::variant<CommandLine, EarlyExit> with_slots(CommandLine line, const Storage& storage,
                                                         const CLI::App& command) {
    for (const std::string& text : storage.slots) {
      const std::optional<int> slot = parse_digits(text, kMostWorkers - 1);
      if (!slot) {
        return EarlyExit{kUsageError, "mgr " + command.get_name() + ": " +
                                          settings::in_quotes(text) +
                                          " is no slot; allowed: 0 to 511\n"};
      }
      line.slots.push_back(*slot);
    }
    return line;
  }

  static std::variant<CommandLine, EarlyExit> with_import(CommandLine line,
                                                          const std::optional<Texts>& words) {
    if (line.import_file.has_value() == words.has_value()) {
      return usage("import",
                   words ? "a FILE and a command line exclude each other"
                         : "a FILE is needed, or -- and a command line of Gunicorn or Uvicorn");
    }
    line.import_words = words.value_or(Texts{});
    return line;
  }

  CLI::App app_{"", "mgr"};
  bool version_ = false;
  std::map<Verb, Storage> storages_;
};

}  // namespace

std::variant<CommandLine, EarlyExit> parse_command_line(std::vector<std::string> arguments) {
  return Parser().parse(std::move(arguments));
}

}  // namespace mgr::cli
