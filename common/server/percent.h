#pragma once

#include <string>
#include <string_view>

namespace mgr::server {

// Appends `text` with its escapes decoded (RFC 3986 2.1); a '%' that starts none stays.
void append_percent_decoded(std::string& out, std::string_view text);

}  // namespace mgr::server
