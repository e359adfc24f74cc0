#include "manager/import/translation.h"

#include <gtest/gtest.h>

#include "common/settings/sources/yaml_file.h"
#include "common/settings/table.h"

namespace mgr::foreign {
namespace {

using nlohmann::json;
using settings::Spelled;
using settings::Texts;

// Every setting of Gunicorn 26.1, by the groups of its documentation.
const std::vector<std::string> kGunicorn{
    // Config file, server socket, worker processes
    "config", "wsgi_app", "bind", "backlog", "workers", "worker_class", "threads",
    "worker_connections", "max_requests", "max_requests_jitter", "timeout", "graceful_timeout",
    "keepalive", "asgi_loop", "asgi_lifespan", "asgi_disconnect_grace_period", "http_parser",
    // Security, debugging
    "limit_request_line", "limit_request_fields", "limit_request_field_size", "reload",
    "reload_engine", "reload_extra_files", "spew", "check_config", "print_config",
    // Server mechanics
    "preload_app", "sendfile", "reuse_port", "chdir", "daemon", "raw_env", "pidfile",
    "worker_tmp_dir", "user", "group", "umask", "initgroups", "tmp_upload_dir",
    "secure_scheme_headers", "forwarded_allow_ips", "pythonpath", "paste", "proxy_protocol",
    "proxy_allow_ips", "protocol", "uwsgi_allow_ips", "raw_paste_global_conf",
    "permit_obsolete_folding", "strip_header_spaces", "permit_unconventional_http_method",
    "permit_unconventional_http_version", "casefold_http_method", "forwarder_headers", "header_map",
    "root_path",
    // Logging, process naming
    "accesslog", "disable_redirect_access_to_syslog", "access_log_format", "errorlog", "loglevel",
    "capture_output", "logger_class", "logconfig", "logconfig_dict", "logconfig_json",
    "syslog_addr", "syslog", "syslog_prefix", "syslog_facility", "enable_stdio_inheritance",
    "statsd_host", "dogstatsd_tags", "statsd_prefix", "enable_backlog_metric", "proc_name",
    "default_proc_name",
    // Server hooks
    "on_starting", "on_reload", "when_ready", "pre_fork", "post_fork", "post_worker_init",
    "worker_int", "worker_abort", "pre_exec", "pre_request", "post_request", "child_exit",
    "worker_exit", "nworkers_changed", "on_exit", "ssl_context",
    // SSL, HTTP/2
    "keyfile", "certfile", "ssl_version", "cert_reqs", "ca_certs", "suppress_ragged_eofs",
    "do_handshake_on_connect", "ciphers", "http_protocols", "http2_cleartext",
    "http2_max_concurrent_streams", "http2_initial_window_size", "http2_max_frame_size",
    "http2_max_header_list_size",
    // Dirty arbiters and their hooks, control
    "dirty_apps", "dirty_workers", "dirty_timeout", "dirty_threads", "dirty_graceful_timeout",
    "on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit",
    "control_socket", "control_socket_mode", "control_socket_disable"};

// Every flag of Gunicorn 26.1.
const std::vector<std::string> kGunicornFlags{"-c",
                                              "--config",
                                              "-b",
                                              "--bind",
                                              "--backlog",
                                              "-w",
                                              "--workers",
                                              "-k",
                                              "--worker-class",
                                              "--threads",
                                              "--worker-connections",
                                              "--max-requests",
                                              "--max-requests-jitter",
                                              "-t",
                                              "--timeout",
                                              "--graceful-timeout",
                                              "--keep-alive",
                                              "--asgi-loop",
                                              "--asgi-lifespan",
                                              "--asgi-disconnect-grace-period",
                                              "--http-parser",
                                              "--limit-request-line",
                                              "--limit-request-fields",
                                              "--limit-request-field_size",
                                              "--reload",
                                              "--reload-engine",
                                              "--reload-extra-file",
                                              "--spew",
                                              "--check-config",
                                              "--print-config",
                                              "--preload",
                                              "--no-sendfile",
                                              "--reuse-port",
                                              "--chdir",
                                              "-D",
                                              "--daemon",
                                              "-e",
                                              "--env",
                                              "-p",
                                              "--pid",
                                              "--worker-tmp-dir",
                                              "-u",
                                              "--user",
                                              "-g",
                                              "--group",
                                              "-m",
                                              "--umask",
                                              "--initgroups",
                                              "--forwarded-allow-ips",
                                              "--pythonpath",
                                              "--paste",
                                              "--paster",
                                              "--proxy-protocol",
                                              "--proxy-allow-from",
                                              "--protocol",
                                              "--uwsgi-allow-from",
                                              "--paste-global",
                                              "--permit-obsolete-folding",
                                              "--strip-header-spaces",
                                              "--permit-unconventional-http-method",
                                              "--permit-unconventional-http-version",
                                              "--casefold-http-method",
                                              "--forwarder-headers",
                                              "--header-map",
                                              "--root-path",
                                              "--access-logfile",
                                              "--disable-redirect-access-to-syslog",
                                              "--access-logformat",
                                              "--error-logfile",
                                              "--log-file",
                                              "--log-level",
                                              "--capture-output",
                                              "--logger-class",
                                              "--log-config",
                                              "--log-config-json",
                                              "--log-syslog-to",
                                              "--log-syslog",
                                              "--log-syslog-prefix",
                                              "--log-syslog-facility",
                                              "-R",
                                              "--enable-stdio-inheritance",
                                              "--statsd-host",
                                              "--dogstatsd-tags",
                                              "--statsd-prefix",
                                              "--enable-backlog-metric",
                                              "-n",
                                              "--name",
                                              "--keyfile",
                                              "--certfile",
                                              "--ssl-version",
                                              "--cert-reqs",
                                              "--ca-certs",
                                              "--suppress-ragged-eofs",
                                              "--do-handshake-on-connect",
                                              "--ciphers",
                                              "--http-protocols",
                                              "--http2-cleartext",
                                              "--http2-max-concurrent-streams",
                                              "--http2-initial-window-size",
                                              "--http2-max-frame-size",
                                              "--http2-max-header-list-size",
                                              "--dirty-app",
                                              "--dirty-workers",
                                              "--dirty-timeout",
                                              "--dirty-threads",
                                              "--dirty-graceful-timeout",
                                              "--control-socket",
                                              "--control-socket-mode",
                                              "--no-control-socket"};

// Every option of Uvicorn 0.51.
const std::vector<std::string> kUvicornFlags{"host",
                                             "port",
                                             "uds",
                                             "fd",
                                             "reload",
                                             "reload-dir",
                                             "reload-include",
                                             "reload-exclude",
                                             "reload-delay",
                                             "workers",
                                             "loop",
                                             "http",
                                             "ws",
                                             "ws-max-size",
                                             "ws-max-queue",
                                             "ws-ping-interval",
                                             "ws-ping-timeout",
                                             "ws-per-message-deflate",
                                             "lifespan",
                                             "interface",
                                             "env-file",
                                             "log-config",
                                             "log-level",
                                             "access-log",
                                             "use-colors",
                                             "proxy-headers",
                                             "server-header",
                                             "date-header",
                                             "forwarded-allow-ips",
                                             "root-path",
                                             "limit-concurrency",
                                             "backlog",
                                             "limit-max-requests",
                                             "limit-max-requests-jitter",
                                             "timeout-keep-alive",
                                             "timeout-graceful-shutdown",
                                             "timeout-worker-healthcheck",
                                             "ssl-keyfile",
                                             "ssl-certfile",
                                             "ssl-keyfile-password",
                                             "ssl-version",
                                             "ssl-cert-reqs",
                                             "ssl-ca-certs",
                                             "ssl-ciphers",
                                             "header",
                                             "app-dir",
                                             "h11-max-incomplete-event-size",
                                             "reset-contextvars",
                                             "factory"};

// Every key of Hypercorn 0.18, and every option of Granian 2.8.
const std::vector<std::string> kHypercorn{"access_log_format",
                                          "accesslog",
                                          "alpn_protocols",
                                          "alt_svc_headers",
                                          "backlog",
                                          "bind",
                                          "insecure_bind",
                                          "quic_bind",
                                          "ca_certs",
                                          "certfile",
                                          "keyfile",
                                          "keyfile_password",
                                          "ciphers",
                                          "verify_mode",
                                          "verify_flags",
                                          "ssl_handshake_timeout",
                                          "debug",
                                          "dogstatsd_tags",
                                          "statsd_host",
                                          "statsd_prefix",
                                          "errorlog",
                                          "graceful_timeout",
                                          "shutdown_timeout",
                                          "startup_timeout",
                                          "read_timeout",
                                          "keep_alive_timeout",
                                          "keep_alive_max_requests",
                                          "h11_max_incomplete_size",
                                          "h11_pass_raw_headers",
                                          "h2_max_concurrent_streams",
                                          "h2_max_header_list_size",
                                          "h2_max_inbound_frame_size",
                                          "include_date_header",
                                          "include_server_header",
                                          "logconfig",
                                          "logconfig_dict",
                                          "loglevel",
                                          "max_app_queue_size",
                                          "max_requests",
                                          "max_requests_jitter",
                                          "pid_path",
                                          "root_path",
                                          "server_names",
                                          "umask",
                                          "user",
                                          "group",
                                          "use_reloader",
                                          "websocket_max_message_size",
                                          "websocket_ping_interval",
                                          "worker_class",
                                          "workers",
                                          "wsgi_max_body_size"};
const std::vector<std::string> kGranianFlags{"host",
                                             "port",
                                             "uds",
                                             "uds-permissions",
                                             "interface",
                                             "http",
                                             "ws",
                                             "workers",
                                             "blocking-threads",
                                             "blocking-threads-idle-timeout",
                                             "runtime-threads",
                                             "runtime-blocking-threads",
                                             "runtime-mode",
                                             "loop",
                                             "task-impl",
                                             "backlog",
                                             "backpressure",
                                             "http1-buffer-size",
                                             "http1-header-read-timeout",
                                             "http1-keep-alive",
                                             "http1-pipeline-flush",
                                             "http2-adaptive-window",
                                             "http2-initial-connection-window-size",
                                             "http2-initial-stream-window-size",
                                             "http2-keep-alive-interval",
                                             "http2-keep-alive-timeout",
                                             "http2-max-concurrent-streams",
                                             "http2-max-frame-size",
                                             "http2-max-headers-size",
                                             "http2-max-send-buffer-size",
                                             "log",
                                             "log-level",
                                             "log-config",
                                             "access-log",
                                             "access-log-fmt",
                                             "ssl-certificate",
                                             "ssl-keyfile",
                                             "ssl-keyfile-password",
                                             "ssl-protocol-min",
                                             "ssl-ca",
                                             "ssl-crl",
                                             "ssl-client-verify",
                                             "url-path-prefix",
                                             "respawn-failed-workers",
                                             "respawn-interval",
                                             "rss-sample-interval",
                                             "rss-samples",
                                             "workers-lifetime",
                                             "workers-max-rss",
                                             "workers-kill-timeout",
                                             "factory",
                                             "working-dir",
                                             "env-files",
                                             "static-path-route",
                                             "static-path-mount",
                                             "static-path-dir-to-file",
                                             "static-path-expires",
                                             "metrics",
                                             "metrics-scrape-interval",
                                             "metrics-address",
                                             "metrics-port",
                                             "reload",
                                             "reload-paths",
                                             "reload-ignore-dirs",
                                             "reload-ignore-patterns",
                                             "reload-ignore-paths",
                                             "reload-tick",
                                             "reload-ignore-worker-failure",
                                             "process-name",
                                             "pid-file"};

constexpr Server kAll[] = {Server::gunicorn, Server::uvicorn, Server::hypercorn, Server::granian};
static_assert(std::size(kAll) == kServers);

class Translation : public testing::Test {
 protected:
  std::string translated(Server server, const json& values) {
    using Values = std::map<std::string, json>;
    Given given{server, values.is_null() ? Values() : values.get<Values>(), "/srv", ""};
    return translate(given, "a test", "", variables_);
  }
  std::string gunicorn(const json& values) { return translated(Server::gunicorn, values); }
  std::string uvicorn(const json& values) { return translated(Server::uvicorn, values); }

  // What mgr takes of the file: all of it, as the fixture insists.
  Settings settings(const std::string& text) {
    Settings result;
    const settings::GivenValues values = settings::read_yaml(text, "mgr.yaml");
    EXPECT_EQ(values.errors, Texts{}) << text;
    for (const settings::Given& given : values.values) {
      const Result<void> applied = settings::find(given.name)->apply(given.value, result);
      EXPECT_TRUE(applied) << text;
    }
    return result;
  }

  static bool says(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }

  settings::Environment variables_;
};

bool has_flag(std::string_view flags, const std::string& wanted) {
  return (" " + std::string(flags) + " ").find(" " + wanted + " ") != std::string::npos;
}

bool knows_flag(Server server, const std::string& flag) {
  for (const ForeignSetting& setting : foreign_settings(server))
    if (has_flag(setting.flags, flag) || has_flag(setting.off_flags, flag)) return true;
  return false;
}

TEST_F(Translation, every_setting_of_gunicorn_is_known) {
  for (const std::string& name : kGunicorn)
    EXPECT_TRUE(find_foreign(Server::gunicorn, name)) << name;
}

TEST_F(Translation, every_setting_becomes_a_setting_or_a_comment_whatever_its_value) {
  for (const Server server : kAll) {
    for (const ForeignSetting& setting : foreign_settings(server)) {
      const std::string name(setting.name);
      for (const json& value : {json("text"), json("1"), json(1), json(true), json(nullptr),
                                json({"a:b", "c:d"}), json(-1.5), json::object({{"a", 1}})}) {
        const std::string text = translated(server, {{name, value}});
        settings(text);
        EXPECT_TRUE(says(text, name + " = ")) << text;
      }
    }
  }
}

TEST_F(Translation, every_setting_without_a_target_says_why) {
  for (const Server server : kAll) {
    for (const ForeignSetting& setting : foreign_settings(server)) {
      EXPECT_EQ(setting.target.empty(), setting.convert == nullptr) << setting.name;
      EXPECT_TRUE(setting.convert || setting.remark.size() > 10) << setting.name;
      EXPECT_EQ(find_foreign(server, setting.name), &setting) << setting.name << " is there twice";
    }
  }
}

TEST_F(Translation, every_flag_is_known) {
  for (const std::string& flag : kGunicornFlags)
    EXPECT_TRUE(knows_flag(Server::gunicorn, flag)) << flag;
  for (const std::string& flag : kUvicornFlags)
    EXPECT_TRUE(knows_flag(Server::uvicorn, "--" + flag)) << flag;
  for (const std::string& flag : kGranianFlags)
    EXPECT_TRUE(knows_flag(Server::granian, "--" + flag)) << flag;
  for (const std::string& name : kHypercorn)
    EXPECT_TRUE(find_foreign(Server::hypercorn, name)) << name;
  for (const char* flag : {"--no-access-log", "--no-use-colors", "--no-proxy-headers",
                           "--no-server-header", "--no-date-header", "--no-reset-contextvars"})
    EXPECT_TRUE(knows_flag(Server::uvicorn, flag)) << flag;
}

TEST_F(Translation, a_usual_file_of_gunicorn_means_the_same) {
  const std::string text = gunicorn({{"wsgi_app", "shop.wsgi:application"},
                                     {"bind", {"0.0.0.0:8000", "unix:shop.sock"}},
                                     {"chdir", "/srv/shop"},
                                     {"workers", 3},
                                     {"worker_class", "gthread"},
                                     {"threads", 8},
                                     {"max_requests", 1000},
                                     {"max_requests_jitter", 50},
                                     {"graceful_timeout", 20},
                                     {"keepalive", 75},
                                     {"backlog", 512},
                                     {"preload_app", true},
                                     {"limit_request_line", 4094},
                                     {"limit_request_fields", 50},
                                     {"raw_env", {"A=b", "DATABASE_URL=postgres://u:p@h/d"}},
                                     {"pythonpath", "lib, vendor"},
                                     {"forwarded_allow_ips", "10.0.0.0/8,127.0.0.1"},
                                     {"accesslog", "-"},
                                     {"errorlog", "/var/log/shop.log"},
                                     {"loglevel", "WARNING"},
                                     {"proc_name", "shop"},
                                     {"control_socket_mode", 0600}});
  const Settings is = settings(text);
  EXPECT_EQ(is.app, "shop.wsgi:application");
  EXPECT_EQ(is.bind, (Texts{"0.0.0.0:8000", "unix:/srv/shop/shop.sock"}));
  EXPECT_EQ(is.chdir, "/srv/shop");
  EXPECT_EQ(is.workers, 3);
  EXPECT_EQ(is.threads, 8);
  EXPECT_EQ(is.max_requests, 1000);
  EXPECT_EQ(is.max_requests_jitter, 50);
  EXPECT_EQ(is.graceful_timeout, std::chrono::seconds(20));
  EXPECT_EQ(is.keep_alive, std::chrono::seconds(75));
  EXPECT_EQ(is.backlog, 512);
  EXPECT_EQ(is.preload, PreloadMode::on);
  EXPECT_EQ(is.limit_request_line, 4094);
  EXPECT_EQ(is.limit_headers, 50);
  EXPECT_EQ(is.env, (settings::TextMap{{"A", "b"}, {"DATABASE_URL", "postgres://u:p@h/d"}}));
  EXPECT_EQ(is.python_path, (Texts{"lib", "vendor"}));
  EXPECT_EQ(is.trusted_proxies, (Texts{"10.0.0.0/8", "127.0.0.1", "unix"}));
  EXPECT_EQ(is.access_log, "-");
  EXPECT_EQ(is.log_file, "/var/log/shop.log");
  EXPECT_EQ(is.log_level, LogLevel::warning);
  EXPECT_EQ(is.name, "shop");
  EXPECT_EQ(is.control_mode, 0600);
  EXPECT_TRUE(says(text, "- worker_class = \"gthread\": ")) << text;
}

TEST_F(Translation, what_gunicorn_does_for_its_process_means_the_same) {
  const std::string text = gunicorn({{"timeout", 45},
                                     {"user", "www-data"},
                                     {"group", 33},
                                     {"umask", 027},
                                     {"pidfile", "/run/shop.pid"},
                                     {"chdir", "/srv/shop"},
                                     {"reload", true},
                                     {"reload_extra_files", {"settings.yml"}},
                                     {"when_ready", "function when_ready"}});
  const Settings is = settings(text);
  EXPECT_EQ(is.timeout, std::chrono::seconds(45));
  EXPECT_EQ(is.user, "www-data");
  EXPECT_EQ(is.group, "33");
  EXPECT_EQ(is.umask, 027);
  EXPECT_EQ(is.pidfile, "/run/shop.pid");
  EXPECT_TRUE(is.reload_on_change);
  EXPECT_EQ(is.reload_paths, (Texts{".", "settings.yml"}));
  EXPECT_TRUE(says(text, "`hooks: {ready: COMMAND}`")) << text;
}

TEST_F(Translation, a_usual_command_line_of_uvicorn_means_the_same) {
  const Settings is = settings(uvicorn({{"app", "main:make"},
                                        {"factory", true},
                                        {"host", "::"},
                                        {"port", "9000"},
                                        {"workers", "2"},
                                        {"loop", "uvloop"},
                                        {"interface", "asgi3"},
                                        {"lifespan", "on"},
                                        {"env_file", ".env"},
                                        {"app_dir", "src"},
                                        {"log_level", "trace"},
                                        {"access_log", false},
                                        {"proxy_headers", false},
                                        {"server_header", false},
                                        {"date_header", false},
                                        {"root_path", "/api"},
                                        {"limit_max_requests", "10"},
                                        {"timeout_keep_alive", "75"},
                                        {"timeout_graceful_shutdown", "10"},
                                        {"header", {"X-A: b", "X-C:d"}}}));
  EXPECT_EQ(is.app, "main:make()");
  EXPECT_EQ(is.bind, Texts{"[::]:9000"});
  EXPECT_EQ(is.workers, 2);
  EXPECT_EQ(is.loop, "uvloop");
  EXPECT_EQ(is.interface, Interface::asgi);
  EXPECT_EQ(is.lifespan, LifespanMode::on);
  EXPECT_EQ(is.env_file, ".env");
  EXPECT_EQ(is.python_path, Texts{"src"});
  EXPECT_EQ(is.log_level, LogLevel::debug);
  EXPECT_EQ(is.access_log, "");
  EXPECT_EQ(is.forwarded, ForwardedFamily::off);
  EXPECT_FALSE(is.server_header);
  EXPECT_FALSE(is.date_header);
  EXPECT_EQ(is.root_path, "/api");
  EXPECT_EQ(is.max_requests, 10);
  EXPECT_EQ(is.keep_alive, std::chrono::seconds(75));
  EXPECT_EQ(is.graceful_timeout, std::chrono::seconds(10));
  EXPECT_EQ(is.headers, (settings::TextMap{{"X-A", "b"}, {"X-C", "d"}}));
}

TEST_F(Translation, hypercorn_and_granian_mean_the_same) {
  const Settings hypercorn =
      settings(translated(Server::hypercorn, {{"application_path", "asgi:m:a"},
                                              {"bind", {"0.0.0.0:80"}},
                                              {"startup_timeout", 20},
                                              {"worker_class", "uvloop"},
                                              {"include_date_header", false},
                                              {"wsgi_max_body_size", 1024}}));
  EXPECT_EQ(hypercorn.app, "m:a");
  EXPECT_EQ(hypercorn.bind, Texts{"0.0.0.0:80"});
  EXPECT_EQ(hypercorn.boot_timeout, std::chrono::seconds(20));
  EXPECT_EQ(hypercorn.loop, "uvloop");
  EXPECT_FALSE(hypercorn.date_header);
  EXPECT_EQ(hypercorn.limit_body, 1024);
  const Settings granian =
      settings(translated(Server::granian, {{"app", "m:a"},
                                            {"factory", true},
                                            {"port", "80"},
                                            {"interface", "asginl"},
                                            {"uds_permissions", "640"},
                                            {"http1_header_read_timeout", "5000"},
                                            {"workers_lifetime", "12h"},
                                            {"workers_max_rss", "256"},
                                            {"metrics", true},
                                            {"metrics_port", "9100"}}));
  EXPECT_EQ(granian.app, "m:a()");
  EXPECT_EQ(granian.bind, Texts{"127.0.0.1:80"});
  EXPECT_EQ(granian.interface, Interface::asgi);
  EXPECT_EQ(granian.socket_mode, 0640);
  EXPECT_EQ(granian.header_timeout, std::chrono::seconds(5));
  EXPECT_EQ(granian.max_lifetime, std::chrono::hours(12));
  EXPECT_EQ(granian.max_memory, 256 << 20);
  EXPECT_EQ(granian.admin, "127.0.0.1:9100");
}

TEST_F(Translation, binds_of_gunicorn_are_the_same_addresses) {
  const auto bind = [this](const json& value) {
    return settings(gunicorn({{"bind", value}})).bind;
  };
  EXPECT_EQ(bind(":80"), Texts{"0.0.0.0:80"});
  EXPECT_EQ(bind("localhost"), Texts{"localhost:8000"});
  EXPECT_EQ(bind("[::1]"), Texts{"[::1]:8000"});
  EXPECT_EQ(bind("[::1]:80, tcp://127.0.0.1:81"), (Texts{"[::1]:80", "127.0.0.1:81"}));
  EXPECT_EQ(bind("unix:///run/a.sock"), Texts{"unix:/run/a.sock"});
  EXPECT_EQ(bind("unix:a.sock"), Texts{"unix:/srv/a.sock"});
  EXPECT_EQ(bind("fd://3"), Texts{"fd://3"});
}

TEST_F(Translation, the_socket_of_uvicorn_wins_over_its_host) {
  EXPECT_EQ(settings(uvicorn({{"uds", "a.sock"}, {"host", "h"}})).bind, Texts{"unix:/srv/a.sock"});
  EXPECT_EQ(settings(uvicorn({{"fd", "3"}, {"port", "1"}})).bind, Texts{"fd://3"});
  EXPECT_EQ(settings(uvicorn({{"host", "0.0.0.0"}})).bind, Texts{"0.0.0.0:8000"});
}

TEST_F(Translation, a_module_alone_has_the_attribute_that_gunicorn_takes) {
  EXPECT_EQ(settings(gunicorn({{"wsgi_app", "main"}})).app, "main:application");
  EXPECT_EQ(settings(gunicorn({{"wsgi_app", "main:make()"}})).app, "main:make()");
}

TEST_F(Translation, a_value_that_mgr_refuses_is_a_comment_with_the_reason) {
  const std::string text =
      gunicorn({{"workers", 0}, {"keepalive", 0}, {"wsgi_app", "main:make('x')"}});
  EXPECT_TRUE(
      says(text, "- workers = 0: `workers`: '0' is out of range; allowed: auto or 1 to 512"))
      << text;
  EXPECT_TRUE(says(text, "- keepalive = 0: `keep_alive`: ")) << text;
  EXPECT_TRUE(says(text, "names no application")) << text;
  EXPECT_EQ(settings(text).workers, 1) << "Gunicorn's default";
  EXPECT_FALSE(says(text, "The application was not named")) << text;
  EXPECT_TRUE(says(gunicorn({}), "The application was not named"));
}

TEST_F(Translation, a_unix_socket_lets_in_whom_it_let_in_there) {
  const auto mode = [this](const std::string& text) { return settings(text).socket_mode; };
  EXPECT_EQ(mode(gunicorn({{"bind", "unix:a.sock"}})), 0777);
  EXPECT_EQ(mode(gunicorn({{"bind", {":1", "unix:/run/a.sock"}}, {"umask", 7}})), 0770);
  EXPECT_EQ(mode(uvicorn({{"uds", "a.sock"}})), 0666);
  EXPECT_EQ(mode(translated(Server::hypercorn, {{"bind", {"unix:/a"}}, {"umask", 0007}})), 0770);
  EXPECT_EQ(mode(translated(Server::hypercorn, {{"bind", {"unix:/a"}}})), Settings{}.socket_mode);
  EXPECT_EQ(mode(gunicorn({{"bind", ":1"}})), Settings{}.socket_mode);
  EXPECT_TRUE(says(gunicorn({{"bind", "unix:a.sock"}}), "`socket_group: www-data` let in nginx"));
}

TEST_F(Translation, an_address_with_a_certificate_says_that_it_is_plain) {
  EXPECT_TRUE(says(gunicorn({{"bind", ":443"}, {"certfile", "a.pem"}}), "# PLAIN HTTP, not TLS"));
  EXPECT_FALSE(says(gunicorn({{"bind", ":443"}, {"certfile", nullptr}}), "PLAIN HTTP"));
  EXPECT_TRUE(says(uvicorn({{"port", "443"}, {"ssl_certfile", "a.pem"}}), "# PLAIN HTTP"));
}

TEST_F(Translation, nothing_is_lost_from_lists_without_a_word) {
  const std::string twice = uvicorn({{"header", {"X-A: 1", "X-A: 2"}}});
  EXPECT_EQ(settings(twice).headers, (settings::TextMap{{"X-A", "2"}}));
  EXPECT_TRUE(says(twice, "'X-A' is given more than once")) << twice;
  EXPECT_EQ(settings(gunicorn({{"raw_env", {"A= b "}}})).env, (settings::TextMap{{"A", " b "}}));
}

TEST_F(Translation, a_setting_that_mgr_does_not_have_is_a_comment) {
  ASSERT_FALSE(settings::find("limit_concurrency")) << "name another one here";
  EXPECT_TRUE(says(uvicorn({{"limit_concurrency", "5"}}),
                   "- limit_concurrency = \"5\": there is no `limit_concurrency` in this version"));
}

TEST_F(Translation, defaults_that_an_application_would_notice_are_written_down) {
  EXPECT_EQ(settings(gunicorn({})).workers, 1);
  EXPECT_EQ(settings(gunicorn({})).threads, 1);
  EXPECT_EQ(settings(gunicorn({{"worker_class", "gevent"}})).threads, Settings{}.threads);
  EXPECT_EQ(settings(gunicorn({{"threads", 2}})).threads, 2);
  EXPECT_EQ(settings(uvicorn({})).workers, 1);
  EXPECT_EQ(settings(uvicorn({})).access_log, "-");
  EXPECT_TRUE(says(uvicorn({}), "Uvicorn waits as long as a request takes"));
  EXPECT_TRUE(says(gunicorn({}), "secure_scheme_headers, by default"));
  EXPECT_FALSE(says(gunicorn({{"secure_scheme_headers", {{"A", "b"}}}}), "by default: of trusted"));
  EXPECT_TRUE(says(gunicorn({}), "where WEB_CONCURRENCY is set, take this line away"));
  variables_["WEB_CONCURRENCY"] = "3";
  EXPECT_EQ(settings(gunicorn({})).workers, 0) << "the variable counts in mgr too";
}

TEST_F(Translation, permission_bits_are_those_that_python_means) {
  const auto mode = [this](const json& value) {
    return settings(gunicorn({{"control_socket_mode", value}})).control_mode;
  };
  EXPECT_EQ(mode(0640), 0640);
  EXPECT_EQ(mode("0o640"), 0640);
  EXPECT_EQ(mode("0640"), 0640);
  EXPECT_EQ(mode("416"), 0640);
  EXPECT_TRUE(says(gunicorn({{"control_socket_mode", "rw"}}), "not permission bits"));
}

TEST_F(Translation, long_and_odd_values_stay_within_their_comment) {
  const std::string text = gunicorn({{"logconfig_dict", {{"a\nb: c", std::string(5000, 'x')}}},
                                     {"syslog_prefix", "line\n\nworkers: 7"},
                                     {"statsd_host", "über\x1b[0m"}});
  EXPECT_EQ(settings(text).workers, 1);
  EXPECT_LT(text.size(), 3000u);
}

TEST_F(Translation, the_interpreter_of_the_command_line_is_kept) {
  const Given given{Server::uvicorn, {{"app", "a:b"}}, "/srv", ""};
  EXPECT_EQ(settings(translate(given, "x", "/venv/bin/python3", {})).python, "/venv/bin/python3");
}

}  // namespace
}  // namespace mgr::foreign
