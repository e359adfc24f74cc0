#include "manager/import/foreign_command_line.h"

#include <fmt/ranges.h>
#include <gtest/gtest.h>

namespace mgr::foreign {
namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

ForeignCommandLine accepted(const Words& words) {
  const auto line = parse_foreign(words, "/srv");
  if (line) return *line;
  ADD_FAILURE() << line.error().message();
  return {};
}

json values(const Words& words) {
  return json(accepted(words).given.values);
}

std::string refused(const Words& words) {
  const auto line = parse_foreign(words, "/srv");
  return line ? "accepted" : line.error().message();
}

TEST(ForeignCommandLine, reads_gunicorn_as_argparse_does) {
  const json expected = {{"wsgi_app", "main:app"}, {"workers", "4"},       {"timeout", "60"},
                         {"worker_class", "sync"}, {"bind", {":1", ":2"}}, {"preload_app", true},
                         {"sendfile", false}};
  EXPECT_EQ(values({"gunicorn", "main:app", "-w", "4", "-t", "60", "-k", "sync", "-b", ":1", "-b",
                    ":2", "--preload", "--no-sendfile"}),
            expected);
  EXPECT_EQ(values({"gunicorn", "-w4", "--timeout=60", "-k=sync", "-b:1", "--bind", ":2",
                    "--preload", "--no-sendfile", "main:app"}),
            expected);
}

TEST(ForeignCommandLine, takes_switches_together_and_flags_that_are_cut_short) {
  EXPECT_EQ(values({"gunicorn", "-DRw3"}),
            (json{{"daemon", true}, {"enable_stdio_inheritance", true}, {"workers", "3"}}));
  EXPECT_EQ(values({"gunicorn", "--max-requests-j", "5"}), (json{{"max_requests_jitter", "5"}}));
  EXPECT_EQ(refused({"gunicorn", "--max", "5"}), "'--max' is no flag of Gunicorn that mgr knows");
}

TEST(ForeignCommandLine, reads_the_proxy_protocol_with_a_version_and_without) {
  EXPECT_EQ(values({"gunicorn", "--proxy-protocol", "main:app"}),
            (json{{"proxy_protocol", "auto"}, {"wsgi_app", "main:app"}}));
  EXPECT_EQ(values({"gunicorn", "--proxy-protocol", "v2", "main:app"}),
            (json{{"proxy_protocol", "v2"}, {"wsgi_app", "main:app"}}));
}

TEST(ForeignCommandLine, reads_uvicorn_as_click_does) {
  EXPECT_EQ(values({"uvicorn", "main:app", "--port", "9000", "--no-access-log", "--proxy-headers",
                    "--header", "A:b", "--header=C:d", "--factory"}),
            (json{{"app", "main:app"},
                  {"port", "9000"},
                  {"access_log", false},
                  {"proxy_headers", true},
                  {"header", {"A:b", "C:d"}},
                  {"factory", true}}));
  EXPECT_EQ(refused({"uvicorn", "--proxy-head"}),
            "'--proxy-head' is no flag of Uvicorn that mgr knows");
}

TEST(ForeignCommandLine, finds_the_server_and_the_interpreter_however_it_is_started) {
  EXPECT_EQ(accepted({"gunicorn"}).python, "");
  EXPECT_EQ(accepted({"/srv/venv/bin/gunicorn", "a:b"}).python, "/srv/venv/bin/python3");
  EXPECT_EQ(accepted({"venv/bin/uvicorn", "a:b"}).given.server, Server::uvicorn);
  const auto module = accepted({"/opt/bin/python3.12", "-u", "-m", "uvicorn", "a:b"});
  EXPECT_EQ(module.python, "/opt/bin/python3.12");
  EXPECT_EQ(module.given.server, Server::uvicorn);
  EXPECT_EQ(module.given.values.at("app"), "a:b");
  EXPECT_EQ(accepted({"python", "-m", "gunicorn"}).given.server, Server::gunicorn);
}

TEST(ForeignCommandLine, reads_hypercorn_and_granian) {
  EXPECT_EQ(values({"hypercorn", "-b", ":1", "--reload", "main:app"}),
            (json{{"bind", {":1"}}, {"use_reloader", true}, {"application_path", "main:app"}}));
  EXPECT_EQ(
      values({"granian", "--interface", "asgi", "--no-ws", "--http1-keep-alive", "main:app"}),
      (json{
          {"interface", "asgi"}, {"ws", false}, {"http1_keep_alive", true}, {"app", "main:app"}}));
}

TEST(ForeignCommandLine, refuses_what_is_no_known_server_with_what_is_allowed) {
  for (const Words& words : {Words{"daphne", "a:b"}, Words{"python", "-m", "flask"},
                             Words{"python", "main.py"}, Words{"daphne a:b"}, Words{"daphne"}}) {
    EXPECT_NE(refused(words).find("starts no server that mgr knows; allowed: gunicorn"),
              std::string::npos);
  }
  for (const Words& words : {Words{}, Words{""}, Words{" "}})
    EXPECT_TRUE(refused(words).starts_with("no command line is given; allowed: gunicorn"));
  EXPECT_EQ(refused({"gunicorn 'main:app"}), "a quote is not closed");
}

TEST(ForeignCommandLine, takes_other_words_before_the_server) {
  for (const Words& before : {Words{"exec"}, Words{"/usr/bin/env", "A=b", "C=d e"},
                              Words{"poetry", "run"}, Words{"ddtrace-run"}}) {
    Words words = before;
    for (const char* word : {"venv/bin/gunicorn", "-w", "3", "main:app"}) words.emplace_back(word);
    const ForeignCommandLine line = accepted(words);
    EXPECT_EQ(json(line.given.values), (json{{"workers", "3"}, {"wsgi_app", "main:app"}}));
    EXPECT_EQ(line.given.skipped, fmt::format("{}", fmt::join(before, " ")));
    EXPECT_EQ(line.python, "venv/bin/python3");
  }
  const auto module = accepted({"exec", "/opt/python3", "-X", "dev", "-m", "uvicorn", "a:b"});
  EXPECT_EQ(module.python, "/opt/python3");
  EXPECT_EQ(module.given.skipped, "exec");
  EXPECT_EQ(module.given.values.at("app"), "a:b");
}

TEST(ForeignCommandLine, takes_it_as_one_word_too) {
  const auto line = accepted({"exec gunicorn -w 4 --env 'A=b c' main:app"});
  EXPECT_EQ(json(line.given.values),
            (json{{"workers", "4"}, {"raw_env", {"A=b c"}}, {"wsgi_app", "main:app"}}));
  EXPECT_EQ(line.given.skipped, "exec");
}

TEST(ForeignCommandLine, reads_the_variables_that_uvicorn_and_granian_read) {
  const settings::Environment variables = {
      {"UVICORN_PORT", "9000"},    {"UVICORN_RELOAD", "true"},
      {"UVICORN_ACCESS_LOG", "0"}, {"UVICORN_RELOAD_DIRS", "src lib"},
      {"UVICORN_LOOP", ""},        {"GRANIAN_WORKERS_KILL_TIMEOUT", "5"}};
  EXPECT_EQ(json(foreign_environment(Server::uvicorn, variables)->values),
            (json{{"port", "9000"},
                  {"reload", true},
                  {"access_log", false},
                  {"reload_dir", {"src", "lib"}}}));
  EXPECT_EQ(json(foreign_environment(Server::granian, variables)->values),
            (json{{"workers_kill_timeout", "5"}}));
  EXPECT_TRUE(foreign_environment(Server::gunicorn, variables)->values.empty());
  EXPECT_TRUE(foreign_environment(Server::uvicorn, {{"UVICORN_RELOAD", "maybe"}})
                  .error()
                  .message()
                  .starts_with("UVICORN_RELOAD: 'maybe'"));
}

TEST(ForeignCommandLine, refuses_unknown_flags_missing_values_and_a_second_application) {
  EXPECT_EQ(refused({"gunicorn", "--nope"}), "'--nope' is no flag of Gunicorn that mgr knows");
  EXPECT_EQ(refused({"gunicorn", "-Z"}), "'-Z' is no flag of Gunicorn that mgr knows");
  EXPECT_EQ(refused({"gunicorn", "-w"}), "'-w' needs a value");
  EXPECT_EQ(refused({"gunicorn", "--preload=1"}), "'--preload' takes no value");
  EXPECT_EQ(refused({"uvicorn", "a:b", "c:d"}), "argument 'c:d' is one too many");
}

TEST(ForeignCommandLine, splits_the_variable_as_a_shell_does) {
  const auto given = parse_gunicorn_flags(R"(-w 2  --env 'A=b c' --env "D=\"e" --bind=\:1)");
  ASSERT_TRUE(given);
  EXPECT_EQ(json(given->values),
            (json{{"workers", "2"}, {"raw_env", {"A=b c", "D=\"e"}}, {"bind", {":1"}}}));
  EXPECT_TRUE(parse_gunicorn_flags("")->values.empty());
  EXPECT_FALSE(parse_gunicorn_flags("--env 'A"));
}

}  // namespace
}  // namespace mgr::foreign
