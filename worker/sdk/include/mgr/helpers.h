#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <mgr/receive_send.h>
#include <mgr/task.h>

namespace mgr::app {

// A whole response: co_await respond(send, 200, {{"content-type", "text/plain"}}, "hello");
// The views must stay valid until it has been awaited.
inline auto respond(Send send, int status, const Headers& headers, std::string_view body) {
  return send.response(status, headers, body);
}

// The whole body of a request; nullopt once it is longer than `limit` bytes (the rest stays
// unread: answer 413). Throws Disconnected if the client goes before its end.
inline Task<std::optional<std::string>> read_body(Receive receive, std::size_t limit) {
  std::string body;
  for (;;) {
    const Message message = co_await receive();
    if (message.type == Message::Type::disconnect) throw Disconnected();
    if (message.body.size() > limit - body.size()) co_return std::nullopt;
    body.append(message.body);
    if (!message.more_body) co_return body;
  }
}

}  // namespace mgr::app
