#include <sys/socket.h>

#include <array>
#include <chrono>

#include "tests/sdk/support.h"
#include "tests/tools/count_allocations.h"

namespace mgr::native {
namespace {

using namespace mgr::app;

// The Date of a new second may take one.
constexpr std::size_t kForDates = 4;

class Allocations : public ApplicationTest {
 protected:
  void SetUp() override {
    if (!app::detail::kRecycleFrames) GTEST_SKIP() << "the address sanitizer sees each frame's end";
  }

  // Allocations of a hundred such requests on one connection, after some to warm up.
  std::size_t per_hundred(std::string_view request) {
    const UniqueFd client = connect();
    for (int i = 0; i < 20; ++i) round(client, request);
    const std::size_t before = allocations;
    for (int i = 0; i < 100; ++i) round(client, request);
    return allocations - before;
  }

 private:
  void round(const UniqueFd& client, std::string_view request) {
    send(client, request);
    std::array<char, 65536> buffer;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (std::chrono::steady_clock::now() < until) {
      dispatcher->turn(milliseconds(10));
      const ssize_t n = ::recv(client.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (n > 4 && std::string_view(buffer.data(), static_cast<std::size_t>(n)).ends_with("end\n"))
        return;
    }
    FAIL() << "no answer";
  }
};

constexpr std::string_view kGet =
    "GET /a%20path?query HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: x/1.0\r\n"
    "Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nX-A: b\r\nX-C: d\r\n\r\n";

TEST_F(Allocations, of_a_plain_request_are_none) {
  serve([](const Scope& scope, Receive, Send send) -> Task<> {
    co_await respond(send, scope.header("x-c") ? 200 : 400, {{"content-type", "text/plain"}},
                     "hello, this is the end\n");
  });
  EXPECT_LE(per_hundred(kGet), kForDates);
}

TEST_F(Allocations, of_a_body_that_is_echoed_in_parts_are_none) {
  serve([](const Scope&, Receive receive, Send send) -> Task<> {
    co_await send(ResponseStart{200, {{"content-length", "10004"}}});
    for (bool more = true; more;) {
      const Message message = co_await receive();
      more = message.more_body;
      co_await send(ResponseBody{message.body, true});
    }
    co_await send(ResponseBody{"end\n"});
  });
  const std::string body(10'000, 'x');
  EXPECT_LE(per_hundred("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n" + body),
            kForDates);
}

TEST_F(Allocations, of_nested_tasks_sleep_and_offload_are_none) {
  serve([](const Scope&, Receive, Send send) -> Task<> {
    const auto half = [](int of) -> Task<int> {
      co_await app::sleep(std::chrono::seconds(0));
      co_return co_await offload([of] { return of / 2; });
    };
    const int value = co_await half(8);
    co_await respond(send, value == 4 ? 200 : 500, {}, "this is the end\n");
  });
  EXPECT_LE(per_hundred(kGet), kForDates);
}

}  // namespace
}  // namespace mgr::native
