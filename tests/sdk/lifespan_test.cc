// The lifespan of C++ applications: the rules of tests/worker/test_lifespan.py.
#include <map>

#include "tests/sdk/support.h"

namespace mgr::native {
namespace {

using namespace mgr::app;
using std::chrono::milliseconds;

class LifespanTest : public ApplicationTest {
 protected:
  void shut_down() {
    lifespan->shut_down();
    turn_until([this] { return lifespan->stopped(); });
  }
  bool in_log(std::string_view text) { return logged().find(text) != std::string::npos; }
};

struct Counter {
  explicit Counter(int from) : value(from) {}
  int value;
};

Task<> no_lifespan(const Scope& scope, Receive, Send send) {
  if (scope.type() == ScopeType::lifespan) throw std::invalid_argument("unknown scope");
  co_await respond(send, 200, {}, "served");
}

TEST_F(LifespanTest, state_of_the_startup_is_seen_by_requests_until_the_shutdown) {
  std::string events;
  serve(
      [&events](const Scope& scope, Receive receive, Send send) -> Task<> {
        if (scope.type() == ScopeType::http) {
          const int count = ++scope.state<Counter>().value;
          co_await respond(send, 200, {}, "count " + std::to_string(count));
          co_return;
        }
        const Message first = co_await receive();
        EXPECT_EQ(first.type, Message::Type::startup);
        co_await app::sleep(milliseconds(2));
        scope.make_state<Counter>(40);
        co_await send(StartupComplete{});
        const Message last = co_await receive();
        EXPECT_EQ(last.type, Message::Type::shutdown);
        events += "shutting down " + std::to_string(scope.state<Counter>().value);
        co_await app::sleep(milliseconds(2));
        co_await send(ShutdownComplete{});
      },
      LifespanMode::on);
  EXPECT_TRUE(get("/").ends_with("count 41"));
  EXPECT_TRUE(get("/").ends_with("count 42"));
  EXPECT_EQ(events, "");
  shut_down();
  EXPECT_EQ(events, "shutting down 42");
}

TEST_F(LifespanTest, state_that_was_not_made_or_is_of_another_type_throws) {
  std::string told;
  serve(
      [&told](const Scope& scope, Receive receive, Send send) -> Task<> {
        if (scope.type() == ScopeType::lifespan) {
          try {
            scope.state<Counter>();
          } catch (const std::logic_error& error) {
            told = error.what();
          }
          co_await receive();
          scope.make_state<std::string>("text");
          co_await send(StartupComplete{});
          co_await receive();
        }
        co_await respond(send, 200, {}, std::to_string(scope.state<Counter>().value));
      },
      LifespanMode::on);
  EXPECT_EQ(told, "the lifespan has made no state");
  EXPECT_TRUE(get("/").starts_with("HTTP/1.1 500"));
  EXPECT_TRUE(in_log("the state that the lifespan has made is of another type"));
  lifespan->cancel();
}

TEST_F(LifespanTest, an_exception_means_no_lifespan_in_auto) {
  serve(no_lifespan, LifespanMode::automatic);
  EXPECT_EQ(lifespan->failure().error, "");
  EXPECT_TRUE(get("/").ends_with("served"));
  EXPECT_TRUE(in_log("does not support lifespan (std::invalid_argument: unknown scope)"));
  shut_down();
}

TEST_F(LifespanTest, one_that_has_listened_before_is_served_in_auto_with_a_warning) {
  serve(
      [](const Scope& scope, Receive receive, Send send) -> Task<> {
        if (scope.type() == ScopeType::http) {
          co_await respond(send, 200, {}, "served");
          co_return;
        }
        const Message message = co_await receive();
        EXPECT_EQ(message.type, Message::Type::startup);
        throw std::runtime_error("no\ndatabase");
      },
      LifespanMode::automatic);
  EXPECT_EQ(lifespan->failure().error, "");
  EXPECT_TRUE(get("/").ends_with("served"));
  EXPECT_TRUE(
      in_log("[warning] the application's start-up failed: std::runtime_error: no database"));
  shut_down();
}

TEST_F(LifespanTest, an_exception_is_a_failure_in_on) {
  serve(no_lifespan, LifespanMode::on);
  EXPECT_EQ(lifespan->failure().error, "lifespan failed: std::invalid_argument: unknown scope");
}

TEST_F(LifespanTest, a_response_in_a_lifespan_is_no_lifespan_either) {
  serve([](const Scope&, Receive, Send send) -> Task<> { co_await respond(send, 200, {}, "hi"); },
        LifespanMode::automatic);
  EXPECT_TRUE(get("/").ends_with("hi"));
  EXPECT_TRUE(in_log("does not support lifespan (std::logic_error: send(): a message of another"));
}

TEST_F(LifespanTest, off_never_calls_the_application) {
  bool called = false;
  serve([&called](const Scope&, Receive, Send) -> Task<> {
    called = true;
    co_return;
  });
  EXPECT_FALSE(called);
  shut_down();
}

TEST_F(LifespanTest, a_startup_that_failed_tells_the_last_line_and_all_of_it) {
  serve(
      [](const Scope&, Receive receive, Send send) -> Task<> {
        co_await receive();
        co_await send(StartupFailed{"trying db1\nno database\n"});
      },
      LifespanMode::automatic);
  EXPECT_EQ(lifespan->failure().error, "the application's start-up failed: no database");
  EXPECT_EQ(lifespan->failure().message, "trying db1\nno database\n");
}

TEST_F(LifespanTest, messages_out_of_order_throw) {
  std::map<std::string, int> thrown;
  serve(
      [&thrown](const Scope&, Receive receive, Send send) -> Task<> {
        try {
          co_await send(ShutdownComplete{});
        } catch (const std::logic_error&) {
          ++thrown["shutdown before startup"];
        }
        co_await receive();
        co_await send(StartupComplete{});
        try {
          co_await send(StartupFailed{"twice"});
        } catch (const std::logic_error&) {
          ++thrown["twice"];
        }
        co_await receive();
      },
      LifespanMode::on);
  EXPECT_EQ(thrown, (std::map<std::string, int>{{"shutdown before startup", 1}, {"twice", 1}}));
  EXPECT_EQ(lifespan->failure().error, "");
  shut_down();
}

TEST_F(LifespanTest, a_shutdown_that_fails_or_throws_is_logged) {
  serve(
      [](const Scope& scope, Receive receive, Send send) -> Task<> {
        if (scope.type() == ScopeType::http) co_return;
        co_await receive();
        co_await send(StartupComplete{});
        co_await receive();
        co_await send(ShutdownFailed{"disk full"});
      },
      LifespanMode::on);
  shut_down();
  EXPECT_TRUE(in_log("[error] the application's shutdown failed: disk full")) << logged();
}

TEST_F(LifespanTest, cancelling_it_runs_its_destructors) {
  auto resource = std::make_shared<int>(1);
  serve(
      [resource](const Scope&, Receive receive, Send send) -> Task<> {
        const std::shared_ptr<int> held = resource;
        co_await receive();
        co_await send(StartupComplete{});
        co_await receive();
      },
      LifespanMode::on);
  const long before = resource.use_count();
  lifespan->cancel();
  EXPECT_EQ(resource.use_count(), before - 1);
}

}  // namespace
}  // namespace mgr::native
