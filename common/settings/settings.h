#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/base/result.h"

namespace mgr {

enum class Interface { automatic, asgi, asgi2, wsgi, native };
enum class LifespanMode { automatic, on, off };
enum class PreloadMode { automatic, on, off };
enum class ForwardedFamily { off, x_forwarded, rfc7239 };

struct CrashBackoff {
  std::chrono::milliseconds first{1000};
  std::chrono::milliseconds longest{60000};
};

// Every effective setting, typed. Declared once in table.cc (name, type, default, range, whether a
// reload applies it, help); this struct holds the values. A plain value: copy it freely.
struct Settings {
  // Application
  std::string app;
  Interface interface = Interface::automatic;
  std::string name;  // empty: derived, see derived_name()
  std::string python;
  std::string chdir = ".";
  std::vector<std::string> python_path;
  std::map<std::string, std::string> env;
  std::string env_file;
  std::string loop = "mgr";
  LifespanMode lifespan = LifespanMode::automatic;
  int threads = 4;
  std::string root_path;

  // Listening
  std::vector<std::string> bind{"127.0.0.1:8000"};
  int backlog = 2048;
  int socket_mode = 0660;
  std::string socket_group;
  std::string balance = "random";

  // Workers
  int workers = 0;  // 0: auto
  PreloadMode preload = PreloadMode::automatic;
  std::chrono::milliseconds timeout{30000};  // 0: off
  std::chrono::milliseconds boot_timeout{60000};
  std::chrono::milliseconds min_ready{1000};
  std::chrono::milliseconds graceful_timeout{30000};
  std::chrono::milliseconds drain_delay{0};
  CrashBackoff crash_backoff;
  int max_requests = 0;  // 0: off, as those below
  int max_requests_jitter = 0;
  std::chrono::milliseconds max_lifetime{0};
  std::int64_t max_memory = 0;
  std::map<std::string, std::string> hooks;  // by event
  bool reload_on_change = false;
  std::vector<std::string> reload_paths;  // empty: `chdir`

  // Process
  std::string user;  // empty: unchanged, as `group`
  std::string group;
  int umask = 0022;
  std::string pidfile;  // empty: none

  // HTTP
  std::chrono::milliseconds header_timeout{10000};
  std::chrono::milliseconds body_timeout{30000};
  std::chrono::milliseconds write_timeout{60000};
  std::chrono::milliseconds request_timeout{0};  // 0: off
  std::chrono::milliseconds keep_alive{5000};
  std::int64_t limit_request_line = 8190;
  int limit_headers = 100;
  std::int64_t limit_header_size = 64 * 1024;
  std::int64_t limit_body = 0;  // 0: off
  ForwardedFamily forwarded = ForwardedFamily::x_forwarded;
  std::vector<std::string> forwarded_trust;  // among "host", "port"
  std::vector<std::string> trusted_proxies{"127.0.0.1", "::1", "unix"};
  bool server_header = true;
  bool date_header = true;
  std::map<std::string, std::string> headers;

  // Control and logs
  std::string control;  // empty: the default places; "off"; or a path
  int control_mode = 0600;
  std::string control_group;
  std::string admin;  // empty: off; or host:port
  LogLevel log_level = LogLevel::info;
  LogFormat log_format = LogFormat::text;
  std::string log_file;    // empty: stderr
  std::string access_log;  // empty: off; "-": stdout; or a path
  std::string access_log_format = "combined";

  // The file the settings were read from, made absolute; empty without one. Not a setting itself.
  std::string config_file;

  // All values by setting name, as the file would spell them; from_json() is its inverse.
  nlohmann::json to_json() const;
  static Result<Settings> from_json(const nlohmann::json& values);

  // `name`, else the stem of the configuration file's name, else from application and first port
  // ("main-8000"). Only [A-Za-z0-9._-], others become '-'.
  std::string derived_name() const;
};

}  // namespace mgr
