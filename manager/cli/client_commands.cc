#include "manager/cli/client_commands.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>

#include "manager/cli/event_lines.h"
#include "manager/cli/status_table.h"

namespace mgr::cli {
namespace {

using nlohmann::json;

// For questions; changes take as long as they take.
constexpr std::chrono::seconds kPatience{10};
// Longer than a supervisor waits for a worker's answer.
constexpr std::chrono::seconds kPatienceForStack{20};

int failed(std::string_view reason, Console console) {
  console.err << reason << (reason.ends_with('\n') ? "" : "\n");
  return kFailed;
}

json parsed(const ControlResponse& response) {
  return json::parse(response.body, nullptr, /*allow_exceptions=*/false);
}

std::string text_of(const json& document, const char* key) {
  if (!document.is_object()) return "";
  const auto found = document.find(key);
  return found != document.end() && found->is_string() ? found->get<std::string>() : "";
}

// What an answer that is no success says: the detail of a problem document (RFC 9457), else its
// body.
std::string reason_of(const ControlResponse& response) {
  const json problem = parsed(response);
  if (const std::string detail = text_of(problem, "detail"); !detail.empty()) return detail;
  if (const std::string title = text_of(problem, "title"); !title.empty()) return title;
  if (!response.body.empty() && problem.is_discarded()) return response.body;
  return "the supervisor answered " + std::to_string(response.status);
}

bool succeeded(const ControlResponse& response) {
  return response.status / 100 == 2;
}

int status(ControlClient& client, bool as_json, Console console) {
  const Result<ControlResponse> response = client.get("/v1/status", kPatience);
  if (!response) return failed(response.error().message(), console);
  if (!succeeded(*response)) return failed(reason_of(*response), console);
  const json document = parsed(*response);
  if (!document.is_object()) return failed("the supervisor's status is no JSON", console);
  if (as_json) {
    console.out << document.dump(2) << "\n";
  } else {
    console.out << status_text(document);
  }
  return 0;
}

int ready(ControlClient& client, Console console) {
  const Result<ControlResponse> response = client.get("/readyz", kPatience);
  if (!response) return failed(response.error().message(), console);
  if (!succeeded(*response)) return failed("not ready: " + reason_of(*response), console);
  // "ok", and what it is degraded by.
  const std::string& text = response->body;
  const std::size_t comma = text.find(',');
  console.out << "ready"
              << (comma == std::string::npos ? "" : text.substr(comma, text.find('\n') - comma))
              << "\n";
  return 0;
}

int metrics(ControlClient& client, Console console) {
  const Result<ControlResponse> response = client.get("/metrics", kPatience);
  if (!response) return failed(response.error().message(), console);
  if (!succeeded(*response)) return failed(reason_of(*response), console);
  console.out << response->body;
  return 0;
}

int print_change(const ControlResponse& response, Console console) {
  if (!succeeded(response)) return failed(reason_of(response), console);
  const json document = parsed(response);
  const std::string message = text_of(document, "message");
  console.out << (message.empty() ? "done" : message) << "\n";
  if (document.is_object() && document.contains("warnings")) {
    for (const json& warning : document["warnings"])
      if (warning.is_string()) console.err << warning.get<std::string>() << "\n";
  }
  return 0;
}

int change(ControlClient& client, const char* path, const json& order, Console console) {
  const Result<ControlResponse> response = client.post(path, order.dump());
  if (!response) return failed(response.error().message(), console);
  return print_change(*response, console);
}

int log_level(ControlClient& client, const std::string& level, Console console) {
  const Result<ControlResponse> response =
      client.put("/v1/log-level", json{{"level", level}}.dump());
  if (!response) return failed(response.error().message(), console);
  return print_change(*response, console);
}

int events(ControlClient& client, bool as_json, Console console) {
  EventReader reader;
  const Result<ControlResponse> response = client.stream("/v1/events", [&](std::string_view bytes) {
    for (const std::string& data : reader.take(bytes)) {
      const auto event = nlohmann::ordered_json::parse(data, nullptr, false);
      console.out << (as_json || !event.is_object() ? data : event_text(event)) << std::endl;
    }
  });
  if (!response) return failed(response.error().message(), console);
  return succeeded(*response) ? 0 : failed(reason_of(*response), console);
}

json scale_order(const ScaleRequest& request) {
  return {{request.relative ? "change" : "workers", request.number}};
}

json restart_order(const std::vector<int>& slots) {
  return slots.empty() ? json::object() : json{{"slots", slots}};
}

int stack(ControlClient& client, int slot, Console console) {
  const Result<ControlResponse> response =
      client.get("/v1/workers/" + std::to_string(slot) + "/stack", kPatienceForStack);
  if (!response) return failed(response.error().message(), console);
  if (!succeeded(*response)) return failed(reason_of(*response), console);
  const json document = parsed(*response);
  const std::string frames = text_of(document, "stack");
  if (frames.empty()) return failed("the supervisor's answer holds no stack", console);
  console.out << "worker " << slot << " (pid " << document.value("pid", 0) << ", generation "
              << document.value("generation", 0) << ")\n";
  if (const std::string note = text_of(document, "note"); !note.empty())
    console.out << "note: " << note << "\n";
  console.out << "\n" << frames;
  return 0;
}

// A process that is to be waited for. Made before it is told to leave, so that its number can't
// have been given to another one meanwhile.
class Departure {
 public:
  explicit Departure(pid_t pid)
      : pid_(pid), pidfd_(pid > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)) : -1) {}

  void wait() const {
    pollfd poll{pidfd_.get(), POLLIN, 0};
    if (pidfd_) {
      while (::poll(&poll, 1, -1) < 0 && errno == EINTR) continue;
      return;
    }
    // Kernels and sandboxes without pidfd.
    constexpr useconds_t kPause = 20'000;
    while (pid_ > 0 && (::kill(pid_, 0) == 0 || errno == EPERM)) ::usleep(kPause);
  }

 private:
  pid_t pid_;
  UniqueFd pidfd_;
};

int stop(ControlClient& client, bool now, Console console) {
  const Departure departure(client.peer().pid);
  const Result<ControlResponse> response = client.post("/v1/stop", json{{"now", now}}.dump());
  // A supervisor that leaves quickly may not finish its answer; that it is gone says enough.
  if (response && !succeeded(*response)) return failed(reason_of(*response), console);
  departure.wait();
  console.out << "stopped\n";
  return 0;
}

int ask(const CommandLine& line, ControlClient& client, Console console) {
  switch (line.verb) {
    case Verb::status:
      return status(client, line.json, console);
    case Verb::metrics:
      return metrics(client, console);
    case Verb::ready:
      return ready(client, console);
    case Verb::scale:
      return change(client, "/v1/scale", scale_order(line.scale), console);
    case Verb::reload:
      return change(client, "/v1/reload", json::object(), console);
    case Verb::restart:
      return change(client, "/v1/restart", restart_order(line.slots), console);
    case Verb::stack:
      return stack(client, line.slots.front(), console);
    case Verb::upgrade:
      return change(client, "/v1/upgrade", json::object(), console);
    case Verb::drain:
      return change(client, "/v1/drain", json::object(), console);
    case Verb::undrain:
      return change(client, "/v1/undrain", json::object(), console);
    case Verb::reopen:
      return change(client, "/v1/reopen", json::object(), console);
    case Verb::log_level:
      return log_level(client, line.level, console);
    case Verb::events:
      return events(client, line.json, console);
    case Verb::stop:
      return stop(client, line.now, console);
    case Verb::run:
    case Verb::check:
    case Verb::config:
    case Verb::import_settings:
    case Verb::version:
      break;
  }
  return failed("not a question to a supervisor", console);
}

}  // namespace

int ask_supervisor(const CommandLine& line, const Places& places, Console console) {
  const Result<std::string> address = find_supervisor(line.target, places);
  if (!address) return failed(address.error().message(), console);
  Result<ControlClient> client = connect_supervisor(*address, places);
  if (!client) return failed(client.error().message(), console);
  return ask(line, *client, console);
}

}  // namespace mgr::cli
