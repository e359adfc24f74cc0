#include "common/settings/table.h"

#include <gtest/gtest.h>

#include <set>

namespace mgr::settings {
namespace {

using namespace std::chrono_literals;

Result<void> give(Settings& settings, const std::string& name, const Spelled& value) {
  return find(name)->apply(value, settings);
}

std::string problem(const std::string& name, const Spelled& value) {
  Settings settings;
  const Result<void> result = give(settings, name, value);
  return result ? "" : result.error().message();
}

bool takes(const std::string& name, const Spelled& value) {
  return problem(name, value).empty();
}

TEST(Table, has_exactly_the_settings_that_the_program_acts_on) {
  std::set<std::string> names;
  for (const Setting& setting : table()) EXPECT_TRUE(names.insert(setting.name).second);
  EXPECT_EQ(names, (std::set<std::string>{"app",
                                          "interface",
                                          "name",
                                          "python",
                                          "chdir",
                                          "python_path",
                                          "env",
                                          "env_file",
                                          "loop",
                                          "lifespan",
                                          "threads",
                                          "root_path",
                                          "bind",
                                          "backlog",
                                          "balance",
                                          "socket_mode",
                                          "socket_group",
                                          "workers",
                                          "preload",
                                          "timeout",
                                          "boot_timeout",
                                          "min_ready",
                                          "graceful_timeout",
                                          "drain_delay",
                                          "crash_backoff",
                                          "max_requests",
                                          "max_requests_jitter",
                                          "max_lifetime",
                                          "max_memory",
                                          "hooks",
                                          "reload_on_change",
                                          "reload_paths",
                                          "user",
                                          "group",
                                          "umask",
                                          "pidfile",
                                          "header_timeout",
                                          "body_timeout",
                                          "write_timeout",
                                          "request_timeout",
                                          "keep_alive",
                                          "limit_request_line",
                                          "limit_headers",
                                          "limit_header_size",
                                          "limit_body",
                                          "forwarded",
                                          "forwarded_trust",
                                          "trusted_proxies",
                                          "server_header",
                                          "date_header",
                                          "headers",
                                          "control",
                                          "control_mode",
                                          "control_group",
                                          "admin",
                                          "log_level",
                                          "log_format",
                                          "log_file",
                                          "access_log",
                                          "access_log_format"}));
}

TEST(Table, every_setting_is_described_and_reads_back_what_it_writes) {
  for (const Setting& setting : table()) {
    EXPECT_FALSE(setting.help.empty()) << setting.name;
    EXPECT_FALSE(setting.allowed.empty()) << setting.name;
    Settings settings;
    const nlohmann::json written = setting.write(settings);
    const Result<void> read = setting.apply(*spelled_from_json(written), settings);
    EXPECT_TRUE(read.ok()) << setting.name << ": " << read.error().message();
    EXPECT_EQ(setting.write(settings), written) << setting.name;
  }
}

TEST(Table, names_flags_and_variables_alike) {
  EXPECT_EQ(find("keep_alive")->flag(), "--keep-alive");
  EXPECT_EQ(find("keep_alive")->variable(), "MGR_KEEP_ALIVE");
  EXPECT_EQ(find("ballast"), nullptr);
}

TEST(Table, a_reload_applies_all_but_what_belongs_to_the_supervisor) {
  std::set<std::string> fixed;
  for (const Setting& setting : table())
    if (setting.reload == Reload::needs_restart) fixed.insert(setting.name);
  EXPECT_EQ(fixed,
            (std::set<std::string>{"name", "backlog", "balance", "socket_mode", "socket_group",
                                   "control", "control_mode", "control_group", "admin", "log_file",
                                   "access_log", "pidfile", "user", "group", "reload_on_change"}));
}

TEST(Table, tells_which_changes_need_a_new_start) {
  Settings before;
  Settings after = before;
  after.bind = {":9000"};
  after.backlog = 7;
  after.keep_alive = 9s;
  after.log_file = "/tmp/x";
  EXPECT_EQ(needing_restart(before, after), (std::vector<std::string>{"backlog", "log_file"}));
  EXPECT_TRUE(needing_restart(before, before).empty());
}

TEST(Table, refuses_a_wrong_shape) {
  EXPECT_EQ(problem("keep_alive", Texts{"1"}),
            "a list where a single value belongs; allowed: 1ms to 24h");
  EXPECT_FALSE(takes("workers", TextMap{}));
  EXPECT_FALSE(takes("bind", TextMap{{"a", "b"}}));
  EXPECT_FALSE(takes("env", "A"));
  EXPECT_FALSE(takes("headers", Texts{"A"}));
}

TEST(Table, refuses_values_out_of_range) {
  EXPECT_EQ(problem("workers", "513"), "'513' is out of range; allowed: auto or 1 to 512");
  EXPECT_FALSE(takes("workers", "0"));
  EXPECT_FALSE(takes("workers", "-1"));
  EXPECT_FALSE(takes("workers", "2.0"));
  EXPECT_FALSE(takes("keep_alive", "0"));
  EXPECT_FALSE(takes("keep_alive", "25h"));
  EXPECT_FALSE(takes("backlog", "0"));
  EXPECT_EQ(problem("threads", "0"), "'0' is out of range; allowed: 1 to 512");
  EXPECT_FALSE(takes("threads", "513"));
  EXPECT_TRUE(takes("threads", "512"));
  EXPECT_FALSE(takes("socket_mode", "1777"));
  EXPECT_FALSE(takes("limit_header_size", "1g"));
  EXPECT_TRUE(takes("min_ready", "0"));
  EXPECT_TRUE(takes("limit_body", "0"));
}

TEST(Table, hooks_are_functions_or_commands_of_known_events) {
  const std::string allowed =
      "; allowed: loaded, worker_start, worker_ready or worker_exit with module:function; ready, "
      "reloaded, reload_failed, worker_died or stopped with a command";
  EXPECT_TRUE(
      takes("hooks", TextMap{{"loaded", "a.b:c.d"}, {"worker_died", "logger \"$MGR_HOW\""}}));
  EXPECT_EQ(problem("hooks", TextMap{{"when_ready", "a:b"}}), "'when_ready' is no event" + allowed);
  EXPECT_EQ(problem("hooks", TextMap{{"loaded", "a b"}}),
            "'loaded' needs module:function, not 'a b'" + allowed);
  for (const char* wrong : {"", "module", "module:", ":function", "module:function()"}) {
    EXPECT_FALSE(takes("hooks", TextMap{{"worker_exit", wrong}})) << wrong;
  }
  EXPECT_EQ(problem("hooks", TextMap{{"stopped", " "}}), "'stopped' needs a command" + allowed);
}

TEST(Table, accepts_no_value_that_the_program_does_not_act_on) {
  EXPECT_TRUE(takes("loop", "uvloop"));
  EXPECT_FALSE(takes("loop", "trio"));
  EXPECT_FALSE(takes("interface", "uwsgi"));
  EXPECT_FALSE(takes("access_log_format", "json"));
  EXPECT_FALSE(takes("log_level", "trace"));
  EXPECT_EQ(problem("interface", "uwsgi"),
            "'uwsgi' is not known; allowed: auto, asgi, asgi2, wsgi or native");
}

TEST(Table, on_and_off_survive_tools_that_rewrite_them) {
  Settings settings;
  ASSERT_TRUE(give(settings, "preload", "true"));
  EXPECT_EQ(settings.preload, PreloadMode::on);
  ASSERT_TRUE(give(settings, "forwarded", "false"));
  EXPECT_EQ(settings.forwarded, ForwardedFamily::off);
  ASSERT_TRUE(give(settings, "control", "false"));
  EXPECT_EQ(settings.control, "off");
  ASSERT_TRUE(give(settings, "access_log", "false"));
  EXPECT_EQ(settings.access_log, "");
  EXPECT_FALSE(takes("interface", "true"));
}

TEST(Table, auto_and_other_words_stand_for_values) {
  Settings settings;
  ASSERT_TRUE(give(settings, "workers", "4"));
  EXPECT_EQ(settings.workers, 4);
  ASSERT_TRUE(give(settings, "workers", "auto"));
  EXPECT_EQ(settings.workers, 0);
  ASSERT_TRUE(give(settings, "log_file", "stderr"));
  EXPECT_EQ(settings.log_file, "");
  ASSERT_TRUE(give(settings, "log_file", "./off"));
  ASSERT_TRUE(give(settings, "log_file", "-"));
  EXPECT_EQ(settings.log_file, "");
  for (const char* word : {"off", "stdout"}) EXPECT_FALSE(takes("log_file", word)) << word;
  ASSERT_TRUE(give(settings, "access_log", "-"));
  EXPECT_EQ(settings.access_log, "-");
}

TEST(Table, checks_the_application) {
  for (const char* text :
       {"main", "main:app", "pkg.main:make()", "pkg:a.b", "módulo:app", "lib/x.so", "x.so:symbol"})
    EXPECT_TRUE(takes("app", text)) << text;
  for (const char* text : {"main:", ":app", "main:app(1)", "lib/x", "lib/x.so:a b", "a b",
                           "main:app:x", "1x", "a..b", "main()", "main:()"})
    EXPECT_FALSE(takes("app", text)) << text;
}

TEST(Table, checks_addresses) {
  EXPECT_TRUE(takes("bind", Texts{":8000", "unix:/a"}));
  EXPECT_TRUE(takes("bind", ":8000"));
  EXPECT_FALSE(takes("bind", Texts{}));
  EXPECT_FALSE(takes("bind", Texts{":80", ":80"}));
  EXPECT_FALSE(takes("bind", Texts{"8000"}));
  EXPECT_TRUE(takes("trusted_proxies", Texts{"10.0.0.0/8", "::1", "unix"}));
  EXPECT_TRUE(takes("trusted_proxies", "*"));
  EXPECT_TRUE(takes("trusted_proxies", Texts{}));
  EXPECT_FALSE(takes("trusted_proxies", Texts{"localhost"}));
  EXPECT_FALSE(takes("forwarded_trust", Texts{"proto"}));
}

TEST(Table, checks_headers) {
  EXPECT_TRUE(takes("headers", TextMap{{"X-Frame-Options", "DENY"}}));
  EXPECT_FALSE(takes("headers", TextMap{{"X Y", "1"}}));
  EXPECT_FALSE(takes("headers", TextMap{{"", "1"}}));
  EXPECT_FALSE(takes("headers", TextMap{{"X", "a\r\nSet-Cookie: b"}}));
  EXPECT_FALSE(takes("headers", TextMap{{"Content-Length", "1"}}));
  EXPECT_FALSE(takes("headers", TextMap{{"transfer-encoding", "chunked"}}));
}

TEST(Table, checks_names_and_paths) {
  EXPECT_TRUE(takes("name", "shop-1.b_c"));
  EXPECT_FALSE(takes("name", "a/b"));
  EXPECT_FALSE(takes("name", std::string(65, 'a')));
  EXPECT_FALSE(takes("chdir", ""));
  EXPECT_TRUE(takes("root_path", "/api"));
  EXPECT_FALSE(takes("root_path", "api"));
  EXPECT_FALSE(takes("root_path", "/api/"));
  EXPECT_FALSE(takes("control", "/" + std::string(200, 'x')));
  EXPECT_FALSE(takes("control", "@name"));
  for (const char* address : {"off", "127.0.0.1:9100", "[::1]:9100", ":9100", "localhost:0"}) {
    EXPECT_TRUE(takes("admin", address)) << address;
  }
  for (const char* other : {"", "9100", "127.0.0.1", "::1:9100", "unix:/x", "unix:@x", "fd://3",
                            "127.0.0.1:65536", "127.0.0.1:-1", "on", "http://127.0.0.1:9100"}) {
    EXPECT_FALSE(takes("admin", other)) << other;
  }
  EXPECT_FALSE(takes("env", TextMap{{"A=B", "1"}}));
}

TEST(Table, reads_the_back_off_as_a_pair) {
  Settings settings;
  ASSERT_TRUE(give(settings, "crash_backoff", "500ms..30s"));
  EXPECT_EQ(settings.crash_backoff.first, 500ms);
  EXPECT_EQ(settings.crash_backoff.longest, 30s);
  for (const char* text : {"1s", "1s..", "..1s", "5s..1s", "0..1s", "1s..48h", "a..b"})
    EXPECT_FALSE(takes("crash_backoff", text)) << text;
}

TEST(Table, a_value_that_is_refused_changes_nothing) {
  Settings settings;
  EXPECT_FALSE(give(settings, "keep_alive", "never"));
  EXPECT_FALSE(give(settings, "bind", Texts{":80", "x"}));
  EXPECT_EQ(settings.to_json(), Settings{}.to_json());
}

TEST(NearestName, forgives_typing) {
  EXPECT_EQ(nearest_name("keepalive"), "keep_alive");
  EXPECT_EQ(nearest_name("Keep-Alive"), "keep_alive");
  EXPECT_EQ(nearest_name("worker"), "workers");
  EXPECT_EQ(nearest_name("gracefull_timeout"), "graceful_timeout");
}

}  // namespace
}  // namespace mgr::settings
