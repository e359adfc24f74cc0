// Requests and responses of C++ applications.
#include <vector>

#include "tests/sdk/support.h"

namespace mgr::native {
namespace {

using namespace mgr::app;
using std::chrono::milliseconds;

class Requests : public ApplicationTest {};

std::string body_of(const std::string& response) {
  const std::size_t end = response.find("\r\n\r\n");
  return end == std::string::npos ? "no response" : response.substr(end + 4);
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_F(Requests, the_scope_says_what_was_asked_for) {
  settings.root_path = "/api";
  std::string seen;
  serve([&seen](const Scope& scope, Receive, Send send) -> Task<> {
    for (const std::string_view part :
         {scope.http_version(), scope.method(), scope.scheme(), scope.path(), scope.raw_path(),
          scope.query_string(), scope.root_path()}) {
      seen.append(part).append("|");
    }
    for (const Header field : scope.headers()) {
      seen.append(field.name).append("=").append(field.value).append("|");
    }
    EXPECT_EQ(scope.header("x-one"), "1");
    EXPECT_FALSE(scope.header("x-two"));
    EXPECT_EQ(scope.client()->host, "127.0.0.1");
    EXPECT_GT(scope.client()->port, 0);
    EXPECT_EQ(scope.server()->host, "127.0.0.1");
    co_await respond(send, 200, {}, "done");
  });
  ask("DELETE /a%20b%zz/%C3%A4?x=%20y HTTP/1.0\r\nHost: a\r\nX-One: 1\r\n\r\n");
  EXPECT_EQ(seen,
            "1.0|DELETE|http|/api/a b%zz/\xC3\xA4|/a%20b%zz/%C3%A4|x=%20y|/api|host=a|x-one=1|");
}

TEST_F(Requests, a_whole_response_leaves_with_its_length) {
  serve([](const Scope&, Receive, Send send) -> Task<> {
    co_await respond(send, 201, {{"content-type", "text/plain"}, {"x-a", "b"}}, "made\n");
  });
  const std::string response = get("/");
  EXPECT_TRUE(response.starts_with("HTTP/1.1 201 Created\r\n")) << response;
  EXPECT_TRUE(has(response, "content-type: text/plain\r\nx-a: b\r\n")) << response;
  EXPECT_TRUE(has(response, "Content-Length: 5\r\n")) << response;
  EXPECT_EQ(body_of(response), "made\n");
}

TEST_F(Requests, more_headers_than_are_kept_inside_go_as_a_span) {
  serve([](const Scope&, Receive, Send send) -> Task<> {
    Headers few;
    for (std::size_t i = 0; i < Headers::kMost; ++i) few.add("x-few", "1");
    EXPECT_THROW(few.add("x-few", "17"), std::length_error);
    const std::vector<Header> many(40, Header{"x-many", "1"});
    co_await send(ResponseStart{200, Headers::of(many)});
    co_await send(ResponseBody{});
  });
  const std::string response = get("/");
  std::size_t count = 0;
  for (std::size_t at = 0; (at = response.find("x-many: 1", at)) != std::string::npos; ++at)
    ++count;
  EXPECT_EQ(count, 40u);
}

TEST_F(Requests, a_body_is_received_in_parts_and_sent_in_parts) {
  serve([](const Scope&, Receive receive, Send send) -> Task<> {
    co_await send(ResponseStart{200});
    for (;;) {
      const Message message = co_await receive();
      EXPECT_EQ(message.type, Message::Type::request);
      co_await send(ResponseBody{message.body, message.more_body});
      if (!message.more_body) co_return;
    }
  });
  const UniqueFd client = connect();
  send(client, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 8\r\n\r\nhalf");
  read_until(client, [](const std::string& all) { return has(all, "4\r\nhalf\r\n"); });
  send(client, "full");
  EXPECT_EQ(read_until(client, [](const std::string&) { return false; }), "4\r\nfull\r\n0\r\n\r\n");
}

TEST_F(Requests, read_body_stops_at_its_limit) {
  serve([](const Scope&, Receive receive, Send send) -> Task<> {
    const auto body = co_await read_body(receive, 5);
    const std::string_view text = body ? std::string_view(*body) : "too large";
    co_await respond(send, body ? 200 : 413, {}, text);
  });
  const auto post = [this](const std::string& body) {
    return ask("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: " +
               std::to_string(body.size()) + "\r\n\r\n" + body);
  };
  EXPECT_EQ(body_of(post("12345")), "12345");
  EXPECT_TRUE(post("123456").starts_with("HTTP/1.1 413"));
  EXPECT_EQ(body_of(post("")), "");
}

TEST_F(Requests, the_part_of_a_body_stays_while_more_arrives) {
  std::string kept;
  serve([&kept](const Scope&, Receive receive, Send send) -> Task<> {
    const Message first = co_await receive();
    co_await app::sleep(milliseconds(20));  // the rest comes meanwhile
    kept = first.body;
    for (bool more = true; more;) {
      const Message message = co_await receive();
      more = message.more_body;
    }
    co_await respond(send, 200, {}, kept);
  });
  const std::string part(1000, 'a');
  const UniqueFd client = connect();
  send(client,
       "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 51000\r\n\r\n" + part);
  for (int i = 0; i < 3; ++i) dispatcher->turn(milliseconds(1));
  send(client, std::string(50000, 'b'));
  EXPECT_EQ(body_of(read_until(client, [](const std::string&) { return false; })), part);
}

TEST_F(Requests, an_exception_is_a_500_and_one_line_in_the_log) {
  serve([](const Scope&, Receive, Send) -> Task<> {
    throw std::out_of_range("no such key");
    co_return;
  });
  EXPECT_TRUE(get("/users/7").starts_with("HTTP/1.1 500"));
  EXPECT_TRUE(
      has(logged(), "GET /users/7: the application failed: std::out_of_range: no such key\n"))
      << logged();
}

TEST_F(Requests, an_exception_of_any_type_at_any_depth_is_told) {
  serve([](const Scope&, Receive, Send) -> Task<> {
    const auto inner = [](int depth) -> Task<> {
      co_await app::sleep(milliseconds(1));
      throw depth;
    };
    co_await inner(1);
  });
  EXPECT_TRUE(get("/deep").starts_with("HTTP/1.1 500"));
  EXPECT_TRUE(has(logged(), "GET /deep: the application failed: int\n")) << logged();
}

TEST_F(Requests, what_throws_before_its_coroutine_begins_is_a_500_too) {
  serve([](const Scope&, Receive, Send) -> Task<> { throw std::runtime_error("at once"); });
  EXPECT_TRUE(get("/").starts_with("HTTP/1.1 500"));
  EXPECT_TRUE(has(logged(), "the application failed: std::runtime_error: at once")) << logged();
}

TEST_F(Requests, an_exception_after_the_head_cuts_the_connection) {
  serve([](const Scope&, Receive, Send send) -> Task<> {
    co_await send(ResponseStart{200});
    co_await send(ResponseBody{"begun", true});
    throw std::runtime_error("half way");
  });
  const std::string response = get("/");
  EXPECT_TRUE(has(response, "begun"));
  EXPECT_FALSE(has(response, "0\r\n\r\n")) << "the client must notice";
}

TEST_F(Requests, returning_without_a_response_is_a_500) {
  serve([](const Scope&, Receive, Send) -> Task<> { co_return; });
  EXPECT_TRUE(get("/").starts_with("HTTP/1.1 500"));
  EXPECT_TRUE(has(logged(), "the application returned without starting the response"));
}

TEST_F(Requests, messages_that_are_wrong_throw) {
  std::vector<std::string> thrown;
  serve([&thrown](const Scope&, Receive, Send send) -> Task<> {
    const auto note = [&thrown](const std::exception& error) { thrown.emplace_back(error.what()); };
    try {
      co_await send(ResponseBody{"before its head"});
    } catch (const std::logic_error& error) {
      note(error);
    }
    try {
      co_await send(ResponseStart{99});
    } catch (const std::invalid_argument& error) {
      note(error);
    }
    try {
      co_await send(StartupComplete{});
    } catch (const std::logic_error& error) {
      note(error);
    }
    co_await send(ResponseStart{200, {{"content-length", "2"}}});
    try {
      co_await send(ResponseBody{"three"});
    } catch (const std::runtime_error& error) {
      note(error);
    }
  });
  get("/");
  EXPECT_EQ(thrown, (std::vector<std::string>{
                        "send(): not the message that is due now",
                        "the status is not in 100..999, or HTTP forbids a header's name or value",
                        "send(): a message of another type of scope",
                        "the response is longer than its Content-Length"}));
}

TEST_F(Requests, after_the_response_receive_tells_of_the_end_and_send_is_ignored) {
  bool over = false;
  serve([&over](const Scope&, Receive receive, Send send) -> Task<> {
    co_await respond(send, 200, {}, "done");
    const Message message = co_await receive();
    over = message.type == Message::Type::disconnect;
    co_await send(ResponseBody{"late"});
  });
  EXPECT_EQ(body_of(get("/")), "done");
  turn_until([&] { return over; });
  EXPECT_FALSE(has(logged(), "failed")) << logged();
}

TEST_F(Requests, many_on_one_connection_are_answered_in_order) {
  serve([](const Scope& scope, Receive, Send send) -> Task<> {
    if (scope.path() == "/0") co_await app::sleep(milliseconds(5));
    co_await respond(send, 200, {}, scope.path());
  });
  std::string requests;
  for (int i = 0; i < 20; ++i) {
    requests += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n" +
                (i == 19 ? "Connection: close\r\n\r\n" : "\r\n");
  }
  const std::string all = ask(requests);
  std::size_t at = 0;
  for (int i = 0; i < 20; ++i) {
    at = all.find("\r\n\r\n/" + std::to_string(i), at);
    ASSERT_NE(at, std::string::npos) << i << "\n" << all;
  }
}

}  // namespace
}  // namespace mgr::native
