#include "manager/import/conversions.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

namespace mgr::foreign {
namespace {

using nlohmann::json;
using settings::TextMap;
using settings::Texts;

// A value as one text: "60", "true", "main:app".
std::string text_of(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string_view stripped(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

// The entries of a list, or those between the commas of a text; none that is empty.
Texts entries_of(const json& value) {
  Texts entries;
  if (value.is_array()) {
    for (const json& element : value) entries.push_back(text_of(element));
    return entries;
  }
  std::string_view rest;
  const std::string text = text_of(value);
  for (rest = text; !rest.empty();) {
    const std::size_t comma = rest.find(',');
    const std::string_view entry = stripped(rest.substr(0, comma));
    if (!entry.empty()) entries.emplace_back(entry);
    rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
  }
  return entries;
}

std::optional<json> given_value(const Given& given, const std::string& name) {
  const auto found = given.values.find(name);
  if (found == given.values.end() || found->second.is_null()) return {};
  return found->second;
}

bool is_on(const json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  const std::string text = text_of(value);
  return text == "true" || text == "True" || text == "on" || text == "1" || text == "yes";
}

// The directory that relative paths start from: Gunicorn changes to `chdir` first.
std::string directory_of(const Given& given) {
  const auto chdir = given_value(given, "chdir");
  if (!chdir) return given.directory;
  const std::string path = text_of(*chdir);
  return path.starts_with('/') ? path : given.directory + "/" + path;
}

std::string unix_bind(const Given& given, std::string_view path) {
  if (path.starts_with("//")) path.remove_prefix(2);  // unix:///path
  if (path.starts_with('/') || path.starts_with('@')) return "unix:" + std::string(path);
  return "unix:" + directory_of(given) + "/" + std::string(path);
}

// util.parse_address() of Gunicorn.
std::string bind_of_gunicorn(const Given& given, std::string_view text) {
  if (text.starts_with("unix:")) return unix_bind(given, text.substr(5));
  if (text.starts_with("fd://")) return std::string(text);
  if (text.starts_with("tcp://")) text.remove_prefix(6);
  const bool bracketed = text.starts_with('[');
  const std::size_t host_end = bracketed ? text.find(']') : 0;
  const bool has_port = text.find(':', host_end) != std::string_view::npos;
  std::string address = text.starts_with(':') ? "0.0.0.0" : "";
  address += text.empty() ? "0.0.0.0" : text;
  return has_port ? address : address + ":8000";
}

bool is_integer(const std::string& text, int base, std::int64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return !text.empty() && error == std::errc{} && end == text.data() + text.size();
}

// int(text, 0) of Python, and digits that begin with 0, which are meant as octal ones.
std::optional<std::int64_t> integer_of(const json& value) {
  if (value.is_number_integer()) return value.get<std::int64_t>();
  const std::string text = text_of(value);
  std::int64_t number = 0;
  for (const auto& [prefix, base] :
       {std::pair{"0o", 8}, {"0O", 8}, {"0x", 16}, {"0X", 16}, {"0b", 2}}) {
    if (text.starts_with(prefix) && is_integer(text.substr(2), base, number)) return number;
  }
  if (is_integer(text, text.starts_with('0') ? 8 : 10, number)) return number;
  return {};
}

Converted nothing(std::string remark) {
  return {std::nullopt, std::move(remark)};
}

// NAME=VALUE or Name:value, all of them. Blanks around the latter's value do not belong to it.
Converted pairs(const json& value, char mark) {
  TextMap map;
  std::string remark;
  for (const std::string& entry : value.is_array() ? entries_of(value) : Texts{text_of(value)}) {
    const std::size_t at = entry.find(mark);
    if (at == std::string::npos)
      return nothing(fmt::format("{} has no '{}'", settings::in_quotes(entry), mark));
    const std::string name = entry.substr(0, at);
    const std::string_view text = std::string_view(entry).substr(at + 1);
    if (map.contains(name))
      remark =
          settings::in_quotes(name) + " is given more than once, here with its last value alone";
    map[name] = mark == ':' ? stripped(text) : text;
  }
  return {map, remark};
}

}  // namespace

Converted as_it_is(const Given&, const json& value) {
  if (value.is_boolean()) return {value.get<bool>() ? "on" : "off", ""};
  return {text_of(value), ""};
}

Converted as_seconds(const Given&, const json& value) {
  const std::string text = text_of(value);
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(seconds))
    return {text, ""};
  return {fmt::format("{}ms", std::llround(seconds * 1000)), ""};
}

Converted as_milliseconds(const Given&, const json& value) {
  return {text_of(value) + "ms", ""};
}

Converted as_mebibytes(const Given&, const json& value) {
  return {text_of(value) + "m", ""};
}

Converted octal_mode(const Given&, const json& value) {
  return {text_of(value), ""};
}

Converted as_mode(const Given&, const json& value) {
  const auto number = integer_of(value);
  if (!number || *number < 0 || *number > 07777) return nothing("not permission bits");
  return {fmt::format("{:04o}", *number), ""};
}

Converted as_list(const Given&, const json& value) {
  return {entries_of(value), ""};
}

Converted as_variables(const Given&, const json& value) {
  return pairs(value, '=');
}

Converted as_headers(const Given&, const json& value) {
  return pairs(value, ':');
}

// ---- Gunicorn

// Without an attribute Gunicorn takes `application`; mgr would try `app` first.
Converted gunicorn_app(const Given&, const json& value) {
  const std::string text = text_of(value);
  const bool whole = text.empty() || text.find(':') != std::string::npos;
  return {whole ? text : text + ":application", ""};
}

Converted gunicorn_bind(const Given& given, const json& value) {
  Texts binds;
  for (const std::string& entry : entries_of(value))
    binds.push_back(bind_of_gunicorn(given, stripped(entry)));
  return {binds, ""};
}

Converted gunicorn_worker_class(const Given&, const json& value) {
  const std::string name = text_of(value);
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has("vicorn") || has("asgi"))
    return nothing("mgr has one kind of worker; it sees that the application is ASGI");
  if (has("gevent") || has("eventlet") || has("tornado"))
    return nothing(
        "there are no greenlets and no other loops: WSGI requests run on `threads`, so give more "
        "of these where many requests wait at the same time");
  if (has("gthread"))
    return nothing("mgr has one kind of worker; `threads` is what it is for WSGI");
  if (name == "sync")
    return nothing("mgr has one kind of worker; with `threads: 1` it is like this one for WSGI");
  return nothing("mgr has one kind of worker, for ASGI and WSGI");
}

Converted gunicorn_preload(const Given&, const json& value) {
  return {is_on(value) ? "on" : "off",
          is_on(value) ? "a reload loads the new code all the same"
                       : "with `auto` workers would share the memory of what was imported"};
}

// A list of one's own takes the place of the default, which is the application's directory.
Converted gunicorn_reload_files(const Given&, const json& value) {
  Texts paths{"."};
  for (std::string& path : entries_of(value)) paths.push_back(std::move(path));
  return {paths, ""};
}

// Gunicorn believes every peer on a Unix socket.
Converted gunicorn_trusted(const Given&, const json& value) {
  Texts peers = entries_of(value);
  if (std::find(peers.begin(), peers.end(), "*") == peers.end()) peers.push_back("unix");
  return {peers, ""};
}

Converted gunicorn_field_size(const Given&, const json& value) {
  constexpr std::int64_t kUsual = 64 * 1024;
  const char* const remark = "the limit of one field there, of all fields together in mgr";
  const auto number = integer_of(value);
  if (!number || *number <= kUsual) return nothing(fmt::format("{}, where it is 64k", remark));
  return {std::to_string(*number), remark};
}

// Before it named versions, it was a switch.
Converted gunicorn_proxy_protocol(const Given&, const json& value) {
  if (value.is_boolean()) return {value.get<bool>() ? "v1" : "off", ""};
  return {text_of(value), ""};
}

Converted gunicorn_no_control(const Given&, const json& value) {
  if (!is_on(value)) return nothing("there is one unless `control: off`");
  return {"off", "without it, `mgr status` and its like have nobody to ask"};
}

// ---- Uvicorn

Converted uvicorn_app(const Given& given, const json&) {
  const auto app = given_value(given, "app");
  if (!app) return nothing("no application is given");
  const auto factory = given_value(given, "factory");
  return {text_of(*app) + (factory && is_on(*factory) ? "()" : ""), ""};
}

Converted uvicorn_bind(const Given& given, const json&) {
  if (const auto uds = given_value(given, "uds"))
    return {Texts{unix_bind(given, text_of(*uds))}, ""};
  if (const auto fd = given_value(given, "fd")) return {Texts{"fd://" + text_of(*fd)}, ""};
  const std::string host = text_of(given_value(given, "host").value_or("127.0.0.1"));
  const std::string port = text_of(given_value(given, "port").value_or("8000"));
  const bool bare_v6 = host.find(':') != std::string::npos && !host.starts_with('[');
  return {Texts{(bare_v6 ? "[" + host + "]" : host) + ":" + port}, ""};
}

Converted uvicorn_interface(const Given&, const json& value) {
  const std::string text = text_of(value);
  return {text == "asgi3" ? "asgi" : text, ""};
}

Converted uvicorn_access_log(const Given&, const json& value) {
  return {is_on(value) ? "-" : "off", ""};
}

Converted uvicorn_proxy_headers(const Given&, const json& value) {
  return {is_on(value) ? "x-forwarded" : "off", ""};
}

// ---- Hypercorn, Granian

Converted hypercorn_app(const Given&, const json& value) {
  std::string text = text_of(value);
  for (const char* mode : {"asgi:", "wsgi:"}) {
    if (text.starts_with(mode)) return {text.substr(5), "mgr sees whether it is ASGI or WSGI"};
  }
  return {text, ""};
}

Converted granian_interface(const Given&, const json& value) {
  const std::string text = text_of(value);
  if (text == "rsgi") return nothing("RSGI is Granian's own; frameworks offer ASGI beside it");
  if (text == "asginl") return {"asgi", "`lifespan: off` leaves the lifespan out"};
  return {text, ""};
}

Converted granian_admin(const Given& given, const json&) {
  const auto on = given_value(given, "metrics");
  if (!on || !is_on(*on)) return nothing("the metrics are off");
  const std::string host = text_of(given_value(given, "metrics_address").value_or("127.0.0.1"));
  const std::string port = text_of(given_value(given, "metrics_port").value_or("9090"));
  const bool bare_v6 = host.find(':') != std::string::npos && !host.starts_with('[');
  return {(bare_v6 ? "[" + host + "]" : host) + ":" + port, ""};
}

Converted one_file(const Given&, const json& value) {
  const Texts files = entries_of(value);
  if (files.size() != 1) return nothing("there is one `env_file`, and `env`");
  return {files.front(), ""};
}

// ---- several

Converted event_loop(const Given&, const json& value) {
  const std::string text = text_of(value);
  if (text == "auto") return {"mgr", "asyncio over the worker's own loop, as fast as uvloop"};
  return {text, ""};
}

Converted log_level(const Given&, const json& value) {
  std::string text = text_of(value);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (text == "critical") return {"error", "there is nothing above it"};
  if (text == "trace") return {"debug", "there is nothing below it"};
  return {text, ""};
}

Converted log_file(const Given&, const json& value) {
  const std::string text = text_of(value);
  return {text == "-" ? "stderr" : text, ""};
}

Converted access_log(const Given&, const json& value) {
  return as_it_is({}, value);
}

Converted access_log_format(const Given&, const json& value) {
  constexpr std::string_view kGunicornsOwn =
      R"(%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s")";
  const std::string text = text_of(value);
  return {text == kGunicornsOwn ? "combined" : text, ""};
}

}  // namespace mgr::foreign
