#include "common/settings/table.h"

#include <algorithm>
#include <cctype>
#include <numeric>

#include "common/base/utf8.h"
#include "common/net/address.h"
#include "common/settings/checks.h"
#include "common/settings/kinds.h"

namespace mgr::settings {
namespace {

using namespace std::chrono_literals;

constexpr DurationRange kFromZero{0ms, 24h};
constexpr DurationRange kAboveZero{1ms, 24h};

std::vector<Setting> application_settings() {
  constexpr Group g = Group::application;
  return {
      text_setting({"app", g,
                    "The application: a Python module, an attribute of it, or a factory to call "
                    "(without an attribute: `app`, then `application`); or a C++ library, relative "
                    "to `chdir`, and what it exports (`mgr_application`)."},
                   &Settings::app,
                   "module, module:attribute, module:factory(), path/to/lib.so or "
                   "path/to/lib.so:symbol",
                   check_app),
      enum_setting<Interface>(
          {"interface", g, "How the application is called; `auto` looks at it."},
          &Settings::interface,
          {{"auto", Interface::automatic},
           {"asgi", Interface::asgi},
           {"asgi2", Interface::asgi2},
           {"wsgi", Interface::wsgi},
           {"native", Interface::native}}),
      text_setting({"name", g,
                    "Name of this supervisor, by which `mgr -i NAME` finds it; empty: from "
                    "the configuration file's name, else from application and port.",
                    Reload::needs_restart},
                   &Settings::name, "letters, digits, '.', '_' and '-', at most 64", check_name),
      text_setting({"python", g,
                    "The interpreter; empty: that of `$VIRTUAL_ENV`, else of `.venv` or "
                    "`venv` under `chdir`, else `python3` on `$PATH`."},
                   &Settings::python, "a path, or a command on $PATH", check_line),
      text_setting({"chdir", g, "Directory that the application runs in; it is on `sys.path`."},
                   &Settings::chdir, "a directory", check_path),
      list_setting({"python_path", g, "More directories for `sys.path`, relative to `chdir`."},
                   &Settings::python_path, "directories", check_path),
      map_setting({"env", g, "Environment variables for the application."}, &Settings::env,
                  "NAME=VALUE", check_environment_entry),
      text_setting({"env_file", g,
                    "File of `NAME=VALUE` lines with more of them; `env` wins. Relative to "
                    "`chdir`."},
                   &Settings::env_file, "a path", check_line),
      word_setting(
          {"loop", g,
           "The event loop: `mgr`, asyncio's over the worker's own; `asyncio`, asyncio's as "
           "it is; or `uvloop`, which must be installed where the application is."},
          &Settings::loop, {"mgr", "asyncio", "uvloop"}),
      enum_setting<LifespanMode>({"lifespan", g,
                                  "The ASGI lifespan protocol: `auto` goes on without it where the "
                                  "application does not support it."},
                                 &Settings::lifespan,
                                 {{"auto", LifespanMode::automatic},
                                  {"on", LifespanMode::on},
                                  {"off", LifespanMode::off}}),
      integer_setting({"threads", g,
                       "Threads for WSGI requests in each worker; 1: on the loop's own thread, "
                       "which is cheapest, for applications that hardly wait."},
                      &Settings::threads, 1, 512),
      text_setting({"root_path", g,
                    "The path that a proxy has taken off: ASGI's `root_path`, put before `path` "
                    "again; WSGI's `SCRIPT_NAME`."},
                   &Settings::root_path, "empty, or a path such as /api", check_root_path),
  };
}

std::vector<Setting> listening_settings() {
  constexpr Group g = Group::listening;
  return {
      list_setting({"bind", g,
                    "Addresses to listen on; `:port` is both families. Port 0 lets the "
                    "kernel choose. A reload opens new ones before it closes old ones."},
                   &Settings::bind, std::string(net::kBindForms), check_bind, Empty::refused),
      integer_setting({"backlog", g,
                       "Longest queue of connections that wait to be accepted, for each "
                       "socket.",
                       Reload::needs_restart},
                      &Settings::backlog, 1, 65535),
      word_setting(
          {"balance", g,
           "How connections come to workers: at `random`, each worker having a queue of "
           "its own, or from one queue, `shared`, which is better for handlers that block. "
           "Unix sockets and inherited ones are always shared.",
           Reload::needs_restart},
          &Settings::balance, {"random", "shared"}),
      mode_setting(
          {"socket_mode", g, "Permissions of the Unix sockets in `bind`.", Reload::needs_restart},
          &Settings::socket_mode),
      text_setting({"socket_group", g, "Group that the Unix sockets in `bind` are given to.",
                    Reload::needs_restart},
                   &Settings::socket_group, "a group's name, or empty", check_line),
  };
}

std::vector<Setting> worker_settings() {
  constexpr Group g = Group::workers;
  return {
      integer_setting({"workers", g,
                       "Number of workers; `auto` is one for each CPU that this process "
                       "may use, as far as its memory limit allows. What `mgr scale` "
                       "set holds across reloads until this value changes."},
                      &Settings::workers, 1, 512, "auto"),
      enum_setting<PreloadMode>(
          {"preload", g,
           "Load the application once and fork workers from there; `auto`: "
           "unless loading left threads or sockets open."},
          &Settings::preload,
          {{"auto", PreloadMode::automatic}, {"on", PreloadMode::on}, {"off", PreloadMode::off}}),
      duration_setting({"timeout", g,
                        "How long a worker's loop may be blocked by one callback (such as an "
                        "`async` handler that never waits, or a WSGI request with `threads: 1`): "
                        "then its stack is logged, another takes its place, and it is killed; a "
                        "warning with its stack comes at half of it. Waiting for a CPU does not "
                        "count; 0: off."},
                       &Settings::timeout, kFromZero),
      duration_setting({"boot_timeout", g, "Time for loading, start-up and becoming ready."},
                       &Settings::boot_timeout, kAboveZero),
      duration_setting({"min_ready", g,
                        "Time that the first worker of a generation must live before "
                        "it is given sockets, and the last before a reload is final."},
                       &Settings::min_ready, kFromZero),
      duration_setting({"graceful_timeout", g, "Time for requests in flight when a worker leaves."},
                       &Settings::graceful_timeout, kFromZero),
      duration_setting(
          {"drain_delay", g, "Time that readiness fails before a graceful stop begins."},
          &Settings::drain_delay, kFromZero),
      backoff_setting({"crash_backoff", g,
                       "First and longest pause before a worker that keeps dying "
                       "is started again; doubled each time."},
                      &Settings::crash_backoff),
      integer_setting({"max_requests", g,
                       "Requests that a worker answers before another takes its place; 0: any."},
                      &Settings::max_requests, 0, 1'000'000'000),
      integer_setting({"max_requests_jitter", g,
                       "Most that is added to `max_requests`, at random for each worker, so that "
                       "they are not replaced all at the same time."},
                      &Settings::max_requests_jitter, 0, 1'000'000'000),
      duration_setting({"max_lifetime", g, "Age at which another takes a worker's place; 0: any."},
                       &Settings::max_lifetime, {0ms, 24h * 365}),
      size_setting(
          {"max_memory", g, "Resident memory at which another takes a worker's place; 0: any."},
          &Settings::max_memory, 0, std::int64_t{1} << 50),
  };
}

std::vector<Setting> process_settings() {
  constexpr Group g = Group::process;
  return {
      map_setting({"hooks", g,
                   "What is called at points of the service's life. Python functions, with a dict: "
                   "`loaded` (in the mold; a failure is one of loading), `worker_start`, "
                   "`worker_ready`, `worker_exit`. Commands, started by the supervisor, with "
                   "`MGR_EVENT` and the like in their environment: `ready`, `reloaded`, "
                   "`reload_failed`, `worker_died`, `stopped`."},
                  &Settings::hooks,
                  "loaded, worker_start, worker_ready or worker_exit with module:function; ready, "
                  "reloaded, reload_failed, worker_died or stopped with a command",
                  check_hook),
      switch_setting({"reload_on_change", g,
                      "For development: reload when a Python file below `reload_paths` changes (or "
                      "the C++ library, `env_file`, the configuration file). Code that fails shows "
                      "its traceback, at the first start too, and the next change is waited for. "
                      "Unless they are given, `workers` is 1 and `min_ready` 0.",
                      Reload::needs_restart},
                     &Settings::reload_on_change),
      list_setting({"reload_paths", g,
                    "Directories and single files to watch, relative to `chdir`; none: `chdir`. "
                    "Hidden directories, caches and virtual environments in them do not count."},
                   &Settings::reload_paths, "paths", check_path),
      text_setting({"user", g,
                    "User that the application runs as (root only): without any capability, and "
                    "without a way to more (no_new_privs); empty: the one who starts mgr.",
                    Reload::needs_restart},
                   &Settings::user, "a user's name or number, or empty", check_line),
      text_setting(
          {"group", g, "Group that the application runs as (root only); empty: that of `user`.",
           Reload::needs_restart},
          &Settings::group, "a group's name or number, or empty", check_line),
      mode_setting(
          {"umask", g, "Permissions that files of the application, and log files, do not get."},
          &Settings::umask),
      text_setting(
          {"pidfile", g,
           "File that holds the supervisor's number for as long as it runs; a second start "
           "with the same file is refused.",
           Reload::needs_restart},
          &Settings::pidfile, "a path, or empty", check_line),
  };
}

std::vector<Setting> http_settings() {
  constexpr Group g = Group::http;
  return {
      duration_setting(
          {"header_timeout", g, "Time for a whole request head; 408 once a byte has come."},
          &Settings::header_timeout, kAboveZero),
      duration_setting({"body_timeout", g, "Longest silence within a request body."},
                       &Settings::body_timeout, kAboveZero),
      duration_setting({"write_timeout", g, "How long a client may read nothing of its response."},
                       &Settings::write_timeout, kAboveZero),
      duration_setting({"request_timeout", g,
                        "Time from a request's head to the end of its response, however it comes "
                        "(streams too): then 504, or a cut where the response has begun, and its "
                        "task is cancelled (a WSGI thread can't be: a worker whose threads are all "
                        "stuck is replaced; what blocks the loop, as WSGI with `threads: 1` "
                        "does, is only told); 0: off."},
                       &Settings::request_timeout, kFromZero),
      duration_setting({"keep_alive", g, "How long a connection may idle between requests."},
                       &Settings::keep_alive, kAboveZero),
      size_setting({"limit_request_line", g, "Longest request line, in bytes; above it 414."},
                   &Settings::limit_request_line, 16, 1 << 20),
      integer_setting({"limit_headers", g, "Most header fields of a request; above it 431."},
                      &Settings::limit_headers, 1, 10000),
      size_setting({"limit_header_size", g, "Most bytes of all header fields; above it 431."},
                   &Settings::limit_header_size, 64, 16 << 20),
      size_setting({"limit_body", g, "Largest request body; above it 413; 0: any."},
                   &Settings::limit_body, 0, std::int64_t{1} << 50),
      enum_setting<ForwardedFamily>(
          {"forwarded", g,
           "Which headers of trusted proxies tell client and scheme; those "
           "of the other family are never believed."},
          &Settings::forwarded,
          {{"x-forwarded", ForwardedFamily::x_forwarded},
           {"rfc7239", ForwardedFamily::rfc7239},
           {"off", ForwardedFamily::off}}),
      list_setting({"forwarded_trust", g,
                    "What else is believed of them: X-Forwarded-Host, "
                    "X-Forwarded-Port."},
                   &Settings::forwarded_trust, "host, port", check_forwarded_trust),
      list_setting({"trusted_proxies", g, "Peers whose forwarding headers are believed."},
                   &Settings::trusted_proxies,
                   "addresses, networks such as 10.0.0.0/8, unix for Unix sockets, * for everyone",
                   check_trusted_proxy),
      switch_setting({"server_header", g, "Send `Server`."}, &Settings::server_header),
      switch_setting({"date_header", g, "Send `Date`."}, &Settings::date_header),
      map_setting({"headers", g, "Header fields that are added to every response."},
                  &Settings::headers, "Name=value, none that frames the message", check_header),
  };
}

std::vector<Setting> control_settings() {
  constexpr Group g = Group::control;
  return {
      text_setting(
          {"control", g,
           "Path of the control socket; empty: `NAME.sock` in the first of "
           "`$RUNTIME_DIRECTORY`, `$XDG_RUNTIME_DIR/mgr`, `/run/mgr` (root), "
           "`/tmp/mgr-UID`; `off`: none.",
           Reload::needs_restart},
          &Settings::control, "a path, off, or empty", check_control,
          {{"off", "off"}, {"no", "off"}, {"false", "off"}, {"False", "off"}, {"FALSE", "off"}}),
      mode_setting({"control_mode", g,
                    "Permissions of the control socket; 0660 where `control_group` "
                    "is given and this is not.",
                    Reload::needs_restart},
                   &Settings::control_mode),
      text_setting({"control_group", g, "Group whose members may read status and configuration.",
                    Reload::needs_restart},
                   &Settings::control_group, "a group's name, or empty", check_line),
      text_setting({"admin", g,
                    "Address where the supervisor answers `/metrics`, `/livez` and `/readyz` to "
                    "everyone who can reach it, so choose one that is loopback or internal; "
                    "`:port` is both families.",
                    Reload::needs_restart},
                   &Settings::admin, "off, host:port, [v6]:port or :port", check_admin,
                   {{"off", ""}, {"false", ""}}),
      enum_setting<LogLevel>({"log_level", g, "Least severe records that are logged."},
                             &Settings::log_level,
                             {{"debug", LogLevel::debug},
                              {"info", LogLevel::info},
                              {"warning", LogLevel::warning},
                              {"error", LogLevel::error}}),
      enum_setting<LogFormat>({"log_format", g, "How records are written."}, &Settings::log_format,
                              {{"text", LogFormat::text}, {"json", LogFormat::json}}),
      text_setting({"log_file", g, "Where records go.", Reload::needs_restart}, &Settings::log_file,
                   "stderr, or a path", check_log_file, {{"stderr", ""}, {"-", ""}}),
      text_setting({"access_log", g, "Where a line for each request goes; `-` is standard output.",
                    Reload::needs_restart},
                   &Settings::access_log, "off, -, or a path", check_line,
                   {{"off", ""}, {"false", ""}}),
      word_setting({"access_log_format", g, "Format of these lines."}, &Settings::access_log_format,
                   {"combined"}),
  };
}

std::vector<Setting> build_table() {
  std::vector<Setting> all;
  for (auto part : {application_settings, listening_settings, worker_settings, process_settings,
                    http_settings, control_settings}) {
    std::vector<Setting> settings = part();
    std::move(settings.begin(), settings.end(), std::back_inserter(all));
  }
  for (Setting& setting : all) {
    setting.schema["description"] = setting.help;
    setting.schema["default"] = setting.write(Settings{});
  }
  return all;
}

std::string folded(std::string_view name) {
  std::string result(name);
  for (char& c : result)
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

// Letters to insert, remove or exchange (Levenshtein).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t exchanged = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, exchanged}));
    }
  }
  return row.back();
}

}  // namespace

std::string_view group_title(Group group) {
  switch (group) {
    case Group::application:
      return "Application";
    case Group::listening:
      return "Listening";
    case Group::workers:
      return "Workers";
    case Group::process:
      return "Process";
    case Group::http:
      return "HTTP";
    case Group::control:
      return "Control and logs";
  }
  return "";
}

namespace {

Result<void> check_utf8_text(const std::string& text) {
  if (first_not_utf8(text) == std::string::npos) return {};
  return Error(in_quotes(text) + " is not UTF-8");
}

// Values travel and are shown as JSON, which knows nothing else.
Result<void> check_utf8(const Spelled& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return check_utf8_text(*text);
  if (const auto* texts = std::get_if<Texts>(&value)) {
    for (const std::string& text : *texts)
      if (Result<void> valid = check_utf8_text(text); !valid) return valid;
    return {};
  }
  for (const auto& [key, text] : std::get<TextMap>(value)) {
    if (Result<void> valid = check_utf8_text(key); !valid) return valid;
    if (Result<void> valid = check_utf8_text(text); !valid)
      return Error(in_quotes(key) + ": " + valid.error().message());
  }
  return {};
}

}  // namespace

std::string Setting::flag() const {
  std::string text = "--" + name;
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

std::string Setting::variable() const {
  std::string text = "MGR_" + name;
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

Result<void> Setting::apply(const Spelled& value, Settings& settings) const {
  Result<void> result = check_utf8(value);
  if (result) result = read(value, settings);
  if (result) return result;
  return Error(result.error().message() + "; allowed: " + allowed);
}

const std::vector<Setting>& table() {
  static const std::vector<Setting> all = build_table();
  return all;
}

const Setting* find(std::string_view name) {
  for (const Setting& setting : table())
    if (setting.name == name) return &setting;
  return nullptr;
}

std::string nearest_name(std::string_view unknown) {
  const std::string wanted = folded(unknown);
  const auto nearer = [&](const Setting& a, const Setting& b) {
    return edit_distance(wanted, a.name) < edit_distance(wanted, b.name);
  };
  return std::min_element(table().begin(), table().end(), nearer)->name;
}

std::vector<std::string> needing_restart(const Settings& before, const Settings& after) {
  std::vector<std::string> names;
  for (const Setting& setting : table()) {
    if (setting.reload == Reload::needs_restart && setting.write(before) != setting.write(after))
      names.push_back(setting.name);
  }
  return names;
}

}  // namespace mgr::settings
