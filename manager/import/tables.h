#pragma once

#include <string_view>
#include <vector>

#include "manager/import/conversions.h"
#include "manager/import/foreign_settings.h"

namespace mgr::foreign {

// The tables, one for each server, and what they are written with.
std::vector<ForeignSetting> gunicorn_table();   // 20.1 to 26.1
std::vector<ForeignSetting> uvicorn_table();    // 0.17 to 0.51
std::vector<ForeignSetting> hypercorn_table();  // 0.14 to 0.18
std::vector<ForeignSetting> granian_table();    // 2.8

// Remarks that several settings share.
inline constexpr std::string_view kStrict =
    "mgr's parser is strict without exception: what two parsers could read differently is "
    "answered with 400";
inline constexpr std::string_view kTls = "there is no TLS in this version: let nginx end it";
inline constexpr std::string_view kHttp2 =
    "there is no HTTP/2 in this version: nginx can speak it to clients";
inline constexpr std::string_view kWebSocket = "there is no WebSocket in this version";
inline constexpr std::string_view kPrometheus =
    "no statsd: `admin: 127.0.0.1:9100` serves the numbers to Prometheus";
inline constexpr std::string_view kSyslog =
    "no syslog: mgr writes to standard error, which systemd's journal takes with its severity";
inline constexpr std::string_view kPythonLogging =
    "mgr's own log is not Python's: `log_level`, `log_format: json`; the application configures "
    "its "
    "`logging` itself";
inline constexpr std::string_view kDirty =
    "there are no dirty workers: use a thread or process pool, or a task queue";
inline constexpr std::string_view kProxyProtocol =
    "the PROXY protocol is not spoken in this version";
inline constexpr std::string_view kUwsgi =
    "mgr speaks HTTP: in nginx, proxy_pass takes the place of uwsgi_pass";
inline constexpr std::string_view kPaste =
    "no Paste files: `app` names a module that calls paste.deploy.loadapp()";

inline ForeignSetting maps(std::string_view name, std::string_view flags, Takes takes,
                           std::string_view target, Convert convert, std::string_view remark = "") {
  return {name, flags, "", takes, target, convert, remark};
}

inline ForeignSetting has_none(std::string_view name, std::string_view flags, Takes takes,
                               std::string_view why) {
  return {name, flags, "", takes, "", nullptr, why};
}

inline ForeignSetting hook(std::string_view name, std::string_view why) {
  return has_none(name, "", Takes::value, why);
}

inline constexpr auto kValue = Takes::value;
inline constexpr auto kValues = Takes::values;
inline constexpr auto kSwitch = Takes::nothing;

// A switch whose contrary has a flag of its own.
inline ForeignSetting switch_maps(std::string_view name, std::string_view on, std::string_view off,
                                  std::string_view target, Convert convert,
                                  std::string_view remark = "") {
  return {name, on, off, Takes::nothing, target, convert, remark};
}

inline ForeignSetting switch_has_none(std::string_view name, std::string_view on,
                                      std::string_view off, std::string_view why) {
  return {name, on, off, Takes::nothing, "", nullptr, why};
}

}  // namespace mgr::foreign
