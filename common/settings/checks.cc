#include "common/settings/checks.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "common/net/address.h"
#include "common/settings/application_name.h"
#include "common/settings/hooks.h"
#include "common/settings/value.h"

namespace mgr::settings {
namespace {

constexpr std::size_t kLongestName = 64;

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

bool is_alnum(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0;
}

// Python identifiers may be any letters of Unicode; Python has the last word on those.
bool is_identifier(std::string_view text) {
  const auto letter = [](char c) {
    return c == '_' || is_alnum(c) || static_cast<unsigned char>(c) >= 0x80;
  };
  return !text.empty() && !std::isdigit(static_cast<unsigned char>(text.front())) &&
         std::all_of(text.begin(), text.end(), letter);
}

bool is_dotted_name(std::string_view text) {
  while (true) {
    const std::size_t dot = text.find('.');
    if (!is_identifier(text.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    text.remove_prefix(dot + 1);
  }
}

// RFC 9110 5.6.2
bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  const auto allowed = [&](char c) {
    return is_alnum(c) || kMarks.find(c) != std::string_view::npos;
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), allowed);
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

}  // namespace

Result<void> check_app(std::string_view text) {
  if (text.empty() || library_named_by(text)) return {};
  const std::size_t colon = text.find(':');
  std::string_view attribute =
      colon == std::string_view::npos ? std::string_view("app") : text.substr(colon + 1);
  if (attribute.ends_with("()")) attribute.remove_suffix(2);
  if (is_dotted_name(text.substr(0, colon)) && is_dotted_name(attribute)) return {};
  return Error(in_quotes(text) + " names no application");
}

Result<void> check_name(std::string_view text) {
  const auto allowed = [](char c) { return is_alnum(c) || c == '.' || c == '_' || c == '-'; };
  if (text.size() > kLongestName) return Error(in_quotes(text) + " is longer than 64 letters");
  if (std::all_of(text.begin(), text.end(), allowed)) return {};
  return Error(in_quotes(text) + " is no name");
}

Result<void> check_line(std::string_view text) {
  if (std::none_of(text.begin(), text.end(), is_control)) return {};
  return Error(in_quotes(text) + " contains a control character");
}

Result<void> check_path(std::string_view text) {
  if (text.empty()) return Error("an empty path");
  return check_line(text);
}

Result<void> check_log_file(std::string_view text) {
  for (const std::string_view word : {"off", "false", "stdout"}) {
    if (text == word)
      return Error(
          fmt::format("{} is not possible (a file of that name: ./{})", in_quotes(text), word));
  }
  return check_line(text);
}

Result<void> check_root_path(std::string_view text) {
  if (text.empty()) return {};
  if (!text.starts_with('/')) return Error(in_quotes(text) + " does not begin with '/'");
  if (text.ends_with('/')) return Error(in_quotes(text) + " ends with '/'");
  if (text.find_first_of("?# ") != std::string_view::npos)
    return Error(in_quotes(text) + " is more than a path");
  return check_line(text);
}

Result<void> check_bind(std::string_view text) {
  const Result<net::BindAddress> address = net::parse_bind_address(text);
  if (!address) return address.error();
  return check_line(text);
}

Result<void> check_admin(std::string_view text) {
  const Result<net::BindAddress> address = net::parse_bind_address(text);
  if (!address) return address.error();
  if (address->kind != net::BindAddress::Kind::tcp)
    return Error(in_quotes(text) + " is no TCP address");
  return check_line(text);
}

Result<void> check_trusted_proxy(std::string_view text) {
  if (text == "*" || text == "unix") return {};
  const Result<net::Network> network = net::parse_network(text);
  if (!network) return network.error();
  return {};
}

Result<void> check_forwarded_trust(std::string_view text) {
  if (text == "host" || text == "port") return {};
  return Error(in_quotes(text) + " is not known");
}

Result<void> check_control(std::string_view text) {
  if (text.empty() || text == "off") return {};
  if (text.starts_with('@')) return Error(in_quotes(text) + " is no path");
  const Result<net::UnixAddress> fits = net::make_unix_address(text);
  if (!fits) return fits.error();
  return check_line(text);
}

Result<void> check_environment_entry(std::string_view key, std::string_view value) {
  if (key.empty() || key.find_first_of(std::string_view("=\0", 2)) != std::string_view::npos)
    return Error(in_quotes(key) + " is no name of a variable");
  if (value.find('\0') != std::string_view::npos)
    return Error(in_quotes(key) + " has a value with a NUL byte");
  return {};
}

Result<void> check_hook(std::string_view event, std::string_view hook) {
  const auto is = [&](std::string_view known) { return known == event; };
  if (std::any_of(kCommandHooks.begin(), kCommandHooks.end(), is)) {
    if (hook.find_first_not_of(" \t") == std::string_view::npos)
      return Error(in_quotes(event) + " needs a command");
    if (hook.find('\0') == std::string_view::npos) return {};
    return Error(in_quotes(event) + " has a command with a NUL byte");
  }
  if (std::none_of(kPythonHooks.begin(), kPythonHooks.end(), is))
    return Error(in_quotes(event) + " is no event");
  const std::size_t colon = hook.find(':');
  if (colon != std::string_view::npos && is_dotted_name(hook.substr(0, colon)) &&
      is_dotted_name(hook.substr(colon + 1)))
    return {};
  return Error(in_quotes(event) + " needs module:function, not " + in_quotes(hook));
}

Result<void> check_header(std::string_view name, std::string_view value) {
  constexpr std::array<std::string_view, 5> kFraming{"connection", "content-length", "keep-alive",
                                                     "transfer-encoding", "upgrade"};
  if (!is_token(name)) return Error(in_quotes(name) + " is no header name");
  if (std::find(kFraming.begin(), kFraming.end(), lower(name)) != kFraming.end())
    return Error(in_quotes(name) + " is the server's own to send");
  const auto forbidden = [](char c) { return is_control(c) && c != '\t'; };
  if (std::any_of(value.begin(), value.end(), forbidden))
    return Error(in_quotes(name) + " has a value with a control character");
  return {};
}

}  // namespace mgr::settings
