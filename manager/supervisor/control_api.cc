#include "manager/supervisor/control_api.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <vector>

#include "common/settings/table.h"
#include "manager/supervisor/control_answer.h"
#include "manager/supervisor/event_stream.h"
#include "manager/supervisor/text_writer.h"

namespace mgr::manager {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::string_view kLogLevel = "/v1/log-level";

bool is_change(std::string_view path) {
  return path == "/v1/reload" || path == "/v1/scale" || path == "/v1/restart" ||
         path == "/v1/stop" || path == "/v1/drain" || path == "/v1/undrain" ||
         path == "/v1/reopen" || path == "/v1/upgrade";
}

bool is_question(std::string_view path) {
  return path == "/v1/status" || path == "/v1/workers" || path == "/v1/config" ||
         path == "/v1/events" || path == "/livez" || path == "/readyz" || path == "/metrics";
}

// The slot in /v1/workers/{slot}/stack; nullopt: another path.
std::optional<std::string_view> slot_of_stack(std::string_view path) {
  constexpr std::string_view kBefore = "/v1/workers/";
  constexpr std::string_view kBehind = "/stack";
  if (!path.starts_with(kBefore) || !path.ends_with(kBehind)) return {};
  if (path.size() < kBefore.size() + kBehind.size()) return {};
  return path.substr(kBefore.size(), path.size() - kBefore.size() - kBehind.size());
}

// The fields that a change's body may have; nullopt: no change.
std::optional<std::vector<std::string>> fields_of(std::string_view path) {
  if (path == "/v1/scale") return {{"workers", "change"}};
  if (path == "/v1/restart") return {{std::string("slots")}};
  if (path == "/v1/stop") return {{std::string("now")}};
  if (path == kLogLevel) return {{std::string("level")}};
  if (is_change(path)) return std::vector<std::string>{};
  return {};
}

std::string_view methods_of(std::string_view path) {
  if (path == kLogLevel) return "PUT";
  if (is_change(path)) return "POST";
  return slot_of_stack(path) ? "GET, HEAD, POST" : "GET, HEAD";
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string dump(const ordered_json& document) {
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

// Is the process at the other end of the Unix socket `fd` a member of `group`, besides its primary
// group? The kernel noted that when it connected; nobody else is asked.
bool is_member(int fd, gid_t group) {
  std::vector<gid_t> groups(64);
  auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) {
    if (errno != ERANGE) return false;
    groups.resize(size / sizeof(gid_t));
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) return false;
  }
  const auto end = groups.begin() + static_cast<std::ptrdiff_t>(size / sizeof(gid_t));
  return std::find(groups.begin(), end, group) != end;
}

}  // namespace

// One request: waits for its body, is answered once, and ends with its exchange.
class ControlApi::Call final : public server::ExchangeObserver {
 public:
  Call(ControlApi& api, std::uint64_t id, server::Exchange& exchange)
      : api_(api), id_(id), exchange_(&exchange) {
    exchange.set_observer(this);
  }
  ~Call() {
    if (exchange_) exchange_->release();
  }

  std::uint64_t id() const { return id_; }
  server::Exchange& exchange() { return *exchange_; }

  void on_body(server::Exchange&) noexcept override {
    if (!dispatched_ && exchange_->body_complete()) {
      dispatched_ = true;
      api_.dispatch(*this);
    }
  }
  void on_drain(server::Exchange&) noexcept override {}
  // The change goes on without its listener: nothing to do.
  void on_disconnect(server::Exchange&) noexcept override {}

  // Answers and ends this object.
  void answer(int status, const ordered_json& document) {
    reply(status, "application/json", dump(document));
  }
  void answer_text(std::string_view text) {
    answer_as("text/plain; charset=utf-8", std::string(text) + "\n");
  }
  void answer_as(std::string_view type, const std::string& body) { reply(200, type, body); }
  // The exchange is somebody else's now; ends this object.
  void hand_over() {
    exchange_ = nullptr;
    api_.calls_.erase(id_);
  }
  void answer(const ControlAnswer& answer) { reply(answer.status, answer.type, answer.body); }
  void problem(int status, std::string_view title, std::string_view detail) {
    answer(ControlAnswer::problem(status, title, detail, ordered_json::object()));
  }
  // 405 with the methods that the path knows (RFC 9110 15.5.6).
  void refuse_method(std::string_view detail) {
    const auto answer =
        ControlAnswer::problem(405, "Method Not Allowed", detail, ordered_json::object());
    const std::array<server::HeaderField, 2> fields{
        {{"Content-Type", answer.type}, {"Allow", methods_of(exchange_->request().raw_path)}}};
    exchange_->set_observer(nullptr);
    if (!exchange_->disconnected()) {
      exchange_->send_head(answer.status, fields);
      exchange_->send_body(answer.body, false);
    }
    api_.calls_.erase(id_);
  }

 private:
  void reply(int status, std::string_view type, const std::string& body) {
    exchange_->set_observer(nullptr);
    if (!exchange_->disconnected()) exchange_->respond(status, type, body);
    api_.calls_.erase(id_);
  }

  ControlApi& api_;
  std::uint64_t id_;
  server::Exchange* exchange_;
  bool dispatched_ = false;
};

ControlApi::ControlApi(Actions actions, Status& status, Access access, const Log& log)
    : actions_(std::move(actions)), status_(status), access_(std::move(access)), log_(log) {}

ControlApi::~ControlApi() = default;

void ControlApi::on_request(server::Exchange& exchange) noexcept {
  const std::uint64_t id = next_call_++;
  auto& call = *calls_.emplace(id, std::make_unique<Call>(*this, id, exchange)).first->second;
  exchange.want_body();
  call.on_body(exchange);
}

ControlApi::Right ControlApi::right_of(const server::Exchange& exchange) const {
  const auto uid = exchange.peer_uid();
  if (uid < 0) return Right::none;
  if (uid == 0 || static_cast<uid_t>(uid) == ::geteuid()) return Right::change;
  if (access_.application == static_cast<uid_t>(uid)) return Right::none;
  const auto& group = access_.control_group;
  const bool reader = group && (static_cast<gid_t>(exchange.peer_gid()) == *group ||
                                is_member(exchange.connection_fd(), *group));
  return reader ? Right::read : Right::none;
}

void ControlApi::dispatch(Call& call) {
  const auto& request = call.exchange().request();
  const Right right = right_of(call.exchange());
  const auto uid = call.exchange().peer_uid();
  if (right == Right::none) {
    return call.problem(403, "Forbidden",
                        fmt::format("uid {} may not use this control socket", uid));
  }
  if (request.method == "GET" || request.method == "HEAD") return read(call, request.raw_path);
  if (request.method != "POST" && request.method != "PUT") {
    return call.refuse_method("only GET, POST and PUT are known here");
  }
  if ((request.method == "PUT") != (request.raw_path == kLogLevel)) {
    return call.refuse_method(
        fmt::format("{} is not known for {}", request.method, request.raw_path));
  }
  if (right != Right::change) {
    return call.problem(403, "Forbidden", fmt::format("uid {} may read, but change nothing", uid));
  }
  log_.info("control: {} by uid {} (pid {})", request.raw_path, uid, call.exchange().peer_pid());
  change(call, request.raw_path);
}

void ControlApi::read(Call& call, std::string_view path) {
  if (path == "/v1/status") return call.answer(200, status_.describe());
  if (path == "/v1/workers") return call.answer(200, status_.workers());
  if (path == "/v1/config") return call.answer(200, actions_.config());
  if (const auto slot = slot_of_stack(path)) return stack(call, *slot);
  if (path == "/metrics") {
    return call.answer_as(TextWriter::kContentType, actions_.metrics());
  }
  if (path == "/v1/events") return events(call);
  if (path == "/livez") return call.answer_text("ok");
  if (path == "/readyz") {
    const std::string reason = actions_.not_ready_reason();
    return reason.empty() ? call.answer_text(actions_.ready_text())
                          : call.problem(503, "Service Unavailable", reason);
  }
  if (is_change(path) || path == kLogLevel) {
    return call.refuse_method(fmt::format("{} is a change: use {}", path, methods_of(path)));
  }
  call.problem(404, "Not Found", "nothing at " + std::string(path));
}

void ControlApi::change(Call& call, std::string_view path) {
  if (const auto slot = slot_of_stack(path)) return stack(call, *slot);
  const std::string_view text = call.exchange().body();
  json body = json::object();
  if (!text.empty()) {
    body = json::parse(text, nullptr, false);
    if (!body.is_object()) {
      return call.problem(400, "Bad Request", "the body is not a JSON object");
    }
  }
  if (const auto known = fields_of(path)) {
    for (const auto& [name, value] : body.items()) {
      if (std::find(known->begin(), known->end(), name) != known->end()) continue;
      return call.problem(400, "Bad Request",
                          fmt::format("{}: {} is no field of {}; allowed: {}", name,
                                      value.dump(-1, ' ', false, json::error_handler_t::replace),
                                      path, known->empty() ? "none" : joined(*known)));
    }
  }
  if (path == "/v1/reload") return actions_.reload(finisher(call));
  if (path == "/v1/scale") return scale(call, body);
  if (path == "/v1/restart") return restart(call, body);
  if (path == "/v1/stop") return stop(call, body);
  if (path == "/v1/upgrade") return upgrade(call);
  if (path == "/v1/drain") return actions_.set_traffic(Traffic::drained, finisher(call));
  if (path == "/v1/undrain") return actions_.set_traffic(Traffic::open, finisher(call));
  if (path == "/v1/reopen") return actions_.reopen(finisher(call));
  if (path == kLogLevel) return set_log_level(call, body);
  if (is_question(path)) {
    return call.refuse_method(std::string(path) + " changes nothing: use GET");
  }
  call.problem(404, "Not Found", "nothing at " + std::string(path));
}

void ControlApi::scale(Call& call, const json& body) {
  const bool to = body.contains("workers") && body["workers"].is_number_integer();
  const bool by = body.contains("change") && body["change"].is_number_integer();
  if (to == by) {
    return call.problem(400, "Bad Request",
                        "expected {\"workers\": N} with N from 1 to 512, or {\"change\": N}");
  }
  if (to) {
    const json& wanted = body["workers"];
    if (wanted < 1 || wanted > 512) {
      return call.problem(
          400, "Bad Request",
          fmt::format("workers: {} is out of range; allowed are 1 to 512", wanted.dump()));
    }
    return actions_.scale(Lifecycle::ScaleTo{wanted.get<int>()}, finisher(call));
  }
  const json& given = body["change"];
  // As a number without a sign it would be compared as if it had one.
  const bool huge = given.is_number_unsigned() && given.get<std::uint64_t>() > 511;
  if (huge || given < -511 || given > 511) {
    return call.problem(
        400, "Bad Request",
        fmt::format("change: {} is out of range; allowed are -511 to 511", given.dump()));
  }
  const int change = given.get<int>();
  actions_.scale(Lifecycle::ScaleBy{change}, finisher(call));
}

void ControlApi::restart(Call& call, const json& body) {
  std::vector<int> slots;
  if (body.contains("slots")) {
    if (!body["slots"].is_array() || body["slots"].empty()) {
      return call.problem(400, "Bad Request",
                          "slots: expected a list of at least one slot number; all without it");
    }
    for (const auto& slot : body["slots"]) {
      if (!slot.is_number_integer() || slot < 0 || slot > 511) {
        return call.problem(400, "Bad Request",
                            fmt::format("slots: {} is no slot number; allowed are 0 to 511",
                                        slot.dump(-1, ' ', false, json::error_handler_t::replace)));
      }
      slots.push_back(slot.get<int>());
    }
  }
  actions_.restart(std::move(slots), finisher(call));
}

void ControlApi::stop(Call& call, const json& body) {
  if (body.contains("now") && !body["now"].is_boolean()) {
    return call.problem(400, "Bad Request", "now: expected true or false");
  }
  const bool now = body.value("now", false);
  const std::uint64_t id = call.id();
  actions_.when_stopped([this, id] { finish(id, Outcome{.message = "stopped"}); });
  actions_.stop(now ? Lifecycle::Stop::quick : Lifecycle::Stop::graceful);
}

void ControlApi::set_log_level(Call& call, const json& body) {
  if (!body.contains("level") || !body["level"].is_string()) {
    return call.problem(400, "Bad Request",
                        "expected {\"level\": \"debug\"}, info, warning or error");
  }
  Settings settings;
  const auto read = settings::find("log_level")->apply(body["level"].get<std::string>(), settings);
  if (!read) return call.problem(400, "Bad Request", "level: " + read.error().message());
  actions_.set_log_level(settings.log_level, finisher(call));
}

void ControlApi::stack(Call& call, std::string_view slot) {
  int number = -1;
  const auto parsed = std::from_chars(slot.data(), slot.data() + slot.size(), number);
  if (parsed.ec != std::errc{} || parsed.ptr != slot.data() + slot.size() || number < 0) {
    return call.problem(404, "Not Found", fmt::format("'{}' is no slot number", slot));
  }
  actions_.stack(number, [this, id = call.id()](const Result<ordered_json>& document) {
    const auto it = calls_.find(id);
    if (it == calls_.end()) return;
    if (document) return it->second->answer(200, *document);
    const bool missing = document.error().code() == ENOENT;
    it->second->problem(missing ? 404 : 422, missing ? "Not Found" : "Not Done",
                        document.error().message());
  });
}

// The connection outlives this program, if all goes well: its successor answers.
void ControlApi::upgrade(Call& call) {
  const auto asker = [this, id = call.id()] {
    const auto it = calls_.find(id);
    return it == calls_.end() ? -1 : it->second->exchange().connection_fd();
  };
  actions_.upgrade(asker, finisher(call));
}

void ControlApi::events(Call& call) {
  server::Exchange& exchange = call.exchange();
  if (exchange.request().method == "HEAD") return call.answer_as("text/event-stream", "");
  if (!actions_.listen(exchange)) {
    return call.problem(503, "Service Unavailable",
                        fmt::format("{} listeners are there already, and no more are served",
                                    EventStream::kMostListeners));
  }
  call.hand_over();
}

Done ControlApi::finisher(const Call& call) {
  return [this, id = call.id()](const Outcome& outcome) { finish(id, outcome); };
}

void ControlApi::finish(std::uint64_t id, const Outcome& outcome) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  it->second->answer(ControlAnswer::to_change(outcome));
}

}  // namespace mgr::manager
