#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>

#include "manager/cli/client_commands.h"
#include "tests/fakes/control_server.h"
#include "tests/fakes/temporary_directory.h"

namespace mgr::cli {
namespace {

using fakes::http;

// Runs client commands against a control socket that gives one answer.
class Client : public testing::Test {
 protected:
  int ask(CommandLine line, const std::string& answer) {
    const std::string address = directory_.path() + "/c" + std::to_string(asked_++);
    fakes::ControlServer server(address, [&](const std::string&) { return answer; });
    line.target.control = address;
    out_.str("");
    err_.str("");
    const int status = ask_supervisor(line, Places::of_process(), {out_, err_});
    request_ = server.requests().empty() ? "" : server.requests().front();
    return status;
  }
  std::string body() const { return request_.substr(request_.find("\r\n\r\n") + 4); }
  std::string request_line() const { return request_.substr(0, request_.find("\r\n")); }

  fakes::TemporaryDirectory directory_;
  std::ostringstream out_, err_;
  std::string request_;
  int asked_ = 0;
};

const std::string kJson = "application/json";
const std::string kProblem = "application/problem+json";

TEST_F(Client, prints_the_message_of_a_change) {
  EXPECT_EQ(ask({.verb = Verb::reload}, http(200, kJson, R"({"message": "generation 2 serves"})")),
            0);
  EXPECT_EQ(out_.str(), "generation 2 serves\n");
  EXPECT_EQ(err_.str(), "");
  EXPECT_EQ(request_line(), "POST /v1/reload HTTP/1.1");
  EXPECT_EQ(body(), "{}");
}

TEST_F(Client, sends_numbers_and_changes_of_a_scale) {
  const std::string done = http(200, kJson, R"({"message": "4 workers"})");
  EXPECT_EQ(ask({.verb = Verb::scale, .scale = {false, 4}}, done), 0);
  EXPECT_EQ(request_line(), "POST /v1/scale HTTP/1.1");
  EXPECT_EQ(body(), R"({"workers":4})");
  EXPECT_EQ(ask({.verb = Verb::scale, .scale = {true, -2}}, done), 0);
  EXPECT_EQ(body(), R"({"change":-2})");
}

TEST_F(Client, sends_the_slots_of_a_restart) {
  const std::string done = http(200, kJson, "{}");
  EXPECT_EQ(ask({.verb = Verb::restart, .slots = {0, 2}}, done), 0);
  EXPECT_EQ(body(), R"({"slots":[0,2]})");
  EXPECT_EQ(out_.str(), "done\n");
  EXPECT_EQ(ask({.verb = Verb::restart}, done), 0);
  EXPECT_EQ(body(), "{}");
}

TEST_F(Client, upgrade_is_a_change_like_others) {
  EXPECT_EQ(ask({.verb = Verb::upgrade}, http(200, kJson, R"({"message": "replaced"})")), 0);
  EXPECT_EQ(out_.str(), "replaced\n");
  EXPECT_EQ(request_line(), "POST /v1/upgrade HTTP/1.1");
}

TEST_F(Client, has_a_path_for_each_change) {
  const std::string done = http(200, kJson, R"({"message": "drained"})");
  EXPECT_EQ(ask({.verb = Verb::drain}, done), 0);
  EXPECT_EQ(request_line(), "POST /v1/drain HTTP/1.1");
  EXPECT_EQ(out_.str(), "drained\n");
  EXPECT_EQ(ask({.verb = Verb::undrain}, done), 0);
  EXPECT_EQ(request_line(), "POST /v1/undrain HTTP/1.1");
  EXPECT_EQ(ask({.verb = Verb::reopen}, done), 0);
  EXPECT_EQ(request_line(), "POST /v1/reopen HTTP/1.1");
  EXPECT_EQ(ask({.verb = Verb::log_level, .level = "debug"}, done), 0);
  EXPECT_EQ(request_line(), "PUT /v1/log-level HTTP/1.1");
  EXPECT_EQ(body(), R"({"level":"debug"})");
}

TEST_F(Client, prints_the_whole_detail_of_a_problem) {
  EXPECT_EQ(
      ask({.verb = Verb::reload},
          http(422, kProblem, R"({"title": "x", "detail": "import: failed\nTraceback\n  y"})")),
      1);
  EXPECT_EQ(err_.str(), "import: failed\nTraceback\n  y\n");
  EXPECT_EQ(out_.str(), "");
}

TEST_F(Client, makes_the_best_of_a_problem_without_detail) {
  EXPECT_EQ(ask({.verb = Verb::reload}, http(409, kProblem, R"({"title": "Conflict"})")), 1);
  EXPECT_EQ(err_.str(), "Conflict\n");
  EXPECT_EQ(ask({.verb = Verb::reload}, http(500, "text/plain", "")), 1);
  EXPECT_EQ(err_.str(), "the supervisor answered 500\n");
  EXPECT_EQ(ask({.verb = Verb::reload}, http(500, kJson, "[]")), 1);
  EXPECT_EQ(err_.str(), "the supervisor answered 500\n");
}

TEST_F(Client, ready_tells_the_reason) {
  EXPECT_EQ(ask({.verb = Verb::ready}, http(200, "text/plain", "ok\n")), 0);
  EXPECT_EQ(out_.str(), "ready\n");
  EXPECT_EQ(ask({.verb = Verb::ready}, http(503, "text/plain", "no worker is ready\n")), 1);
  EXPECT_EQ(err_.str(), "not ready: no worker is ready\n");
  EXPECT_EQ(request_line(), "GET /readyz HTTP/1.1");
}

TEST_F(Client, metrics_are_printed_as_they_are) {
  const std::string text = "# TYPE mgr_ready gauge\nmgr_ready 1\n";
  EXPECT_EQ(ask({.verb = Verb::metrics}, http(200, "text/plain; version=0.0.4", text)), 0);
  EXPECT_EQ(out_.str(), text);
  EXPECT_EQ(request_line(), "GET /metrics HTTP/1.1");
  EXPECT_EQ(ask({.verb = Verb::metrics}, http(404, kProblem, R"({"detail": "nothing there"})")), 1);
  EXPECT_EQ(out_.str(), "");
  EXPECT_EQ(err_.str(), "nothing there\n");
}

TEST_F(Client, status_is_a_table_or_json) {
  const std::string answer = http(200, kJson, R"({"name": "shop", "workers": []})");
  EXPECT_EQ(ask({.verb = Verb::status}, answer), 0);
  EXPECT_EQ(out_.str().substr(0, 6), "shop: ");
  EXPECT_EQ(ask({.verb = Verb::status, .json = true}, answer), 0);
  EXPECT_EQ(out_.str(), "{\n  \"name\": \"shop\",\n  \"workers\": []\n}\n");
  EXPECT_EQ(ask({.verb = Verb::status}, http(200, kJson, "nonsense")), 1);
}

TEST_F(Client, answers_that_are_cut_or_no_http_are_failures) {
  EXPECT_EQ(ask({.verb = Verb::status}, ""), 1);
  EXPECT_NE(err_.str().find("left before it answered"), std::string::npos);
  EXPECT_EQ(ask({.verb = Verb::status}, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"), 1);
  EXPECT_NE(err_.str().find("left before it answered"), std::string::npos);
  EXPECT_EQ(ask({.verb = Verb::status}, "nonsense\r\n\r\n"), 1);
  EXPECT_NE(err_.str().find("no HTTP"), std::string::npos);
}

TEST_F(Client, prints_events_as_they_come_or_why_there_are_none) {
  const std::string stream =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
      "1e\r\nevent: x\ndata: {\"event\": \"x\"}\n\r\n1\r\n\n\r\n0\r\n\r\n";
  EXPECT_EQ(ask({.verb = Verb::events}, stream), 0) << err_.str();
  EXPECT_EQ(out_.str(), "x\n");
  EXPECT_EQ(request_line(), "GET /v1/events HTTP/1.1");
  EXPECT_EQ(ask({.verb = Verb::events, .json = true}, stream), 0);
  EXPECT_EQ(out_.str(), "{\"event\": \"x\"}\n");
  EXPECT_EQ(ask({.verb = Verb::events}, http(503, kProblem, R"({"detail": "too many"})")), 1);
  EXPECT_EQ(err_.str(), "too many\n");
}

TEST_F(Client, takes_chunked_answers_and_those_that_end_with_the_connection) {
  EXPECT_EQ(ask({.verb = Verb::restart},
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                "10\r\n{\"message\": \"ab\"\r\n1\r\n}\r\n0\r\n\r\n"),
            0);
  EXPECT_EQ(out_.str(), "ab\n");
  EXPECT_EQ(ask({.verb = Verb::restart}, "HTTP/1.1 200 OK\r\n\r\n{\"message\": \"cd\"}"), 0);
  EXPECT_EQ(out_.str(), "cd\n");
}

TEST_F(Client, warnings_of_a_change_go_to_standard_error) {
  EXPECT_EQ(ask({.verb = Verb::reload},
                http(200, kJson, R"({"message": "done", "warnings": ["bind needs a restart"]})")),
            0);
  EXPECT_EQ(err_.str(), "bind needs a restart\n");
}

TEST_F(Client, stop_waits_until_the_process_is_gone) {
  const std::string address = directory_.path() + "/stop";
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  const pid_t supervisor = ::fork();
  if (supervisor == 0) {
    fakes::ControlServer server(address, [](const std::string&) { return http(200, kJson, "{}"); });
    CHECK(::write(pipe_ends[1], "x", 1) == 1);
    while (server.requests().empty()) ::usleep(1000);
    ::usleep(200'000);
    ::_exit(0);
  }
  char ready;
  ASSERT_EQ(::read(pipe_ends[0], &ready, 1), 1);
  const int status = ask_supervisor({.verb = Verb::stop, .target = {.control = address}},
                                    Places::of_process(), {out_, err_});
  // Already dead, so that there is something to reap at once.
  const pid_t reaped = ::waitpid(supervisor, nullptr, WNOHANG);
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(out_.str(), "stopped\n");
  EXPECT_EQ(reaped, supervisor);
  if (reaped != supervisor) ::waitpid(supervisor, nullptr, 0);
}

}  // namespace
}  // namespace mgr::cli
