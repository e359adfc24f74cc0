#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "tests/common/server/support.h"

// What the tests of a connection's life share.
namespace mgr::server {

using SendResult = Exchange::SendResult;
using Clock = std::chrono::steady_clock;

inline constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
inline constexpr std::string_view kLater = "GET /later HTTP/1.1\r\nHost: a\r\n\r\n";

inline std::string post(std::string_view path, std::size_t length, std::string_view body = "") {
  return "POST " + std::string(path) +
         " HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(length) + "\r\n\r\n" +
         std::string(body);
}

// "/later" is held by the application until the test answers it.
class HoldingTest : public ServerTest {
 protected:
  HoldingTest() {
    application.handlers["/later"] = [](Exchange&) {};
  }
  // The exchange of the request that `client` sends and that the application holds.
  Exchange& hold(Client& client, std::string_view request = kLater) {
    const std::size_t before = application.held.size();
    client.send(request);
    EXPECT_TRUE(turn_until([&] { return application.held.size() > before; }));
    return *application.held.back();
  }
  milliseconds time_to_end(Client& client) {
    const auto begin = Clock::now();
    client.read_to_end();
    return std::chrono::duration_cast<milliseconds>(Clock::now() - begin);
  }
};

}  // namespace mgr::server
