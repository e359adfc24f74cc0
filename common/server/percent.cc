#include "common/server/percent.h"

#include "common/server/syntax.h"

namespace mgr::server {

void append_percent_decoded(std::string& out, std::string_view text) {
  for (std::size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%')) {
    out.append(text.substr(0, at));
    const bool complete = at + 2 < text.size();
    const int high = complete ? syntax::hex_digit(text[at + 1]) : -1;
    const int low = complete ? syntax::hex_digit(text[at + 2]) : -1;
    const bool escape = high >= 0 && low >= 0;
    out += escape ? static_cast<char>(high * 16 + low) : '%';
    text.remove_prefix(at + (escape ? 3 : 1));
  }
  out.append(text);
}

}  // namespace mgr::server
