#include "manager/cli/status_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

namespace mgr::cli {
namespace {

using nlohmann::json;
using Row = std::vector<std::string>;

const json& member(const json& object, const char* key) {
  static const json kNull;
  const auto found = object.find(key);
  return object.is_object() && found != object.end() ? *found : kNull;
}

std::string text(const json& object, const char* key) {
  const json& value = member(object, key);
  if (value.is_null()) return "-";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// "4.2s", "3m20s", "5h12m", "8d3h"
std::string duration(const json& object, const char* key) {
  const json& value = member(object, key);
  if (!value.is_number()) return "-";
  const double seconds = value.get<double>();
  if (seconds < 60) return fmt::format("{:.1f}s", seconds);
  const auto whole = static_cast<long long>(seconds);
  if (whole < 3600) return fmt::format("{}m{}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h{}m", whole / 3600, whole % 3600 / 60);
  return fmt::format("{}d{}h", whole / 86400, whole % 86400 / 3600);
}

std::string percent(const json& object, const char* key) {
  const json& value = member(object, key);
  return value.is_number() ? fmt::format("{:.0f}%", value.get<double>() * 100) : "-";
}

std::string mebibytes(const json& object, const char* key) {
  const json& value = member(object, key);
  return value.is_number() ? fmt::format("{:.1f} MiB", value.get<double>() / (1 << 20)) : "-";
}

// Columns as wide as their widest cell; the last is not padded.
std::string aligned(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string result;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i + 1 < row.size(); ++i)
      result += fmt::format("{:<{}}", row[i], widths[i] + 2);
    result += row.back() + "\n";
  }
  return result;
}

std::size_t ready_workers(const json& workers) {
  return static_cast<std::size_t>(std::count_if(
      workers.begin(), workers.end(), [](const json& w) { return member(w, "state") == "ready"; }));
}

std::string first_line(const std::string& lines) {
  return lines.substr(0, lines.find('\n'));
}

std::string last_reload(const json& reload) {
  if (!reload.is_object()) return "";
  if (member(reload, "ok") == true) return "last reload: done in " + duration(reload, "duration_s");
  return fmt::format("last reload: failed at {}: {}", text(reload, "stage"),
                     first_line(text(reload, "error")));
}

std::string listeners(const json& status) {
  std::string result;
  for (const json& listener : member(status, "listeners")) {
    if (!result.empty()) result += ", ";
    result += text(listener, "address");
    const json& queued = member(listener, "queued");
    if (queued.is_number() && queued > 0) result += fmt::format(" ({} queued)", queued.dump());
  }
  return result;
}

std::string supervisor_lines(const json& status) {
  std::string result = fmt::format(
      "{}: {}, {} of {} workers ready, generation {}, up {}, pid {}, mgr {}\n",
      text(status, "name"), text(status, "state"), ready_workers(member(status, "workers")),
      text(status, "target_workers"), text(status, "generation"), duration(status, "uptime_s"),
      text(status, "pid"), text(status, "version"));
  if (const std::string addresses = listeners(status); !addresses.empty())
    result += "listening: " + addresses + "\n";
  if (const std::string reload = last_reload(member(status, "last_reload")); !reload.empty())
    result += reload + "\n";
  return result;
}

// Why the last one ended, and when the next attempt of a crash loop comes.
std::string last_exit(const json& worker) {
  const std::string how = text(worker, "last_exit");
  if (!member(worker, "retry_s").is_number()) return how;
  return how + "; next in " + duration(worker, "retry_s");
}

Row worker_row(const json& worker) {
  return {text(worker, "slot"),      text(worker, "pid"),          text(worker, "generation"),
          text(worker, "state"),     duration(worker, "uptime_s"), text(worker, "requests"),
          text(worker, "in_flight"), text(worker, "connections"),  percent(worker, "busy"),
          mebibytes(worker, "rss"),  text(worker, "restarts"),     last_exit(worker)};
}

Row leaving_row(const json& worker) {
  const std::string deadline = "cut in " + duration(worker, "deadline_s");
  return {text(worker, "slot"),
          text(worker, "pid"),
          text(worker, "generation"),
          "leaving",
          "-",
          "-",
          text(worker, "in_flight"),
          "-",
          "-",
          "-",
          "-",
          deadline};
}

}  // namespace

std::string status_text(const json& status) {
  std::vector<Row> rows{{"SLOT", "PID", "GEN", "STATE", "UPTIME", "REQUESTS", "IN FLIGHT",
                         "CONNECTIONS", "BUSY", "RSS", "RESTARTS", "LAST EXIT"}};
  for (const json& worker : member(status, "workers")) rows.push_back(worker_row(worker));
  for (const json& worker : member(status, "leaving")) rows.push_back(leaving_row(worker));
  return supervisor_lines(status) + "\n" + aligned(rows);
}

}  // namespace mgr::cli
