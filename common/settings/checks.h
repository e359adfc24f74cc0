#pragma once

#include <string_view>

#include "common/base/result.h"

namespace mgr::settings {

// What is said where `app` is needed and not given.
inline constexpr const char* kNoApplication =
    "app: no application is given; allowed: module, module:attribute or module:factory()";

// What the texts of single settings must look like. Errors quote the text.

// module, module:attribute, module:factory(), path/to/lib.so, path/to/lib.so:symbol; empty: none.
Result<void> check_app(std::string_view text);
// [A-Za-z0-9._-], at most 64; empty: derived.
Result<void> check_name(std::string_view text);
// No control characters; may be empty.
Result<void> check_line(std::string_view text);
Result<void> check_log_file(std::string_view text);
// The same, not empty.
Result<void> check_path(std::string_view text);
// Empty, or a path that begins with '/' and does not end with it.
Result<void> check_root_path(std::string_view text);
// An entry of `bind`.
Result<void> check_bind(std::string_view text);
Result<void> check_admin(std::string_view text);
// An address, a network, `*` or `unix`.
Result<void> check_trusted_proxy(std::string_view text);
// host or port.
Result<void> check_forwarded_trust(std::string_view text);
// A path that fits a Unix socket, `off`, or empty.
Result<void> check_control(std::string_view text);
// A variable for the application.
Result<void> check_environment_entry(std::string_view key, std::string_view value);
// An entry of `hooks`.
Result<void> check_hook(std::string_view event, std::string_view hook);
// A response header: RFC 9110 5.1 and 5.5; none that frames the message.
Result<void> check_header(std::string_view name, std::string_view value);

}  // namespace mgr::settings
