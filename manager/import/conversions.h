#pragma once

#include "manager/import/foreign_settings.h"

namespace mgr::foreign {

// What values of other servers are in mgr. Each is a Convert; whether mgr takes the result
// is seen where it is applied.

// A text, number or switch, as it is.
Converted as_it_is(const Given& given, const nlohmann::json& value);
// Seconds, whole or not; other texts as they are.
Converted as_seconds(const Given& given, const nlohmann::json& value);
Converted as_milliseconds(const Given& given, const nlohmann::json& value);
Converted as_mebibytes(const Given& given, const nlohmann::json& value);
// Permission bits: a number, or a text that Python reads as one.
Converted as_mode(const Given& given, const nlohmann::json& value);
// Digits that are octal, whatever they begin with.
Converted octal_mode(const Given& given, const nlohmann::json& value);
// A list, or a text with commas.
Converted as_list(const Given& given, const nlohmann::json& value);
// A list of NAME=VALUE.
Converted as_variables(const Given& given, const nlohmann::json& value);
// A list of Name:value.
Converted as_headers(const Given& given, const nlohmann::json& value);

Converted gunicorn_app(const Given& given, const nlohmann::json& value);
Converted gunicorn_bind(const Given& given, const nlohmann::json& value);
Converted gunicorn_worker_class(const Given& given, const nlohmann::json& value);
Converted gunicorn_preload(const Given& given, const nlohmann::json& value);
Converted gunicorn_reload_files(const Given& given, const nlohmann::json& value);
Converted gunicorn_trusted(const Given& given, const nlohmann::json& value);
Converted gunicorn_field_size(const Given& given, const nlohmann::json& value);
Converted gunicorn_proxy_protocol(const Given& given, const nlohmann::json& value);
Converted gunicorn_no_control(const Given& given, const nlohmann::json& value);

// All of host, port, uds and fd, and all of the application and `factory`, whichever is asked.
Converted uvicorn_app(const Given& given, const nlohmann::json& value);
Converted uvicorn_bind(const Given& given, const nlohmann::json& value);
Converted uvicorn_interface(const Given& given, const nlohmann::json& value);
Converted uvicorn_access_log(const Given& given, const nlohmann::json& value);
Converted uvicorn_proxy_headers(const Given& given, const nlohmann::json& value);

Converted hypercorn_app(const Given& given, const nlohmann::json& value);

Converted granian_interface(const Given& given, const nlohmann::json& value);
// All of metrics, metrics_address and metrics_port, whichever is asked.
Converted granian_admin(const Given& given, const nlohmann::json& value);
// mgr has one `env_file`.
Converted one_file(const Given& given, const nlohmann::json& value);

// `auto` is mgr's own.
Converted event_loop(const Given& given, const nlohmann::json& value);
// critical and trace have no equal.
Converted log_level(const Given& given, const nlohmann::json& value);
Converted log_file(const Given& given, const nlohmann::json& value);
Converted access_log(const Given& given, const nlohmann::json& value);
Converted access_log_format(const Given& given, const nlohmann::json& value);

}  // namespace mgr::foreign
