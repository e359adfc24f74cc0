#include "common/ipc/messages.h"

#include <utility>

#include "common/ipc/channel.h"

namespace mgr::ipc {
namespace {

using nlohmann::json;

// Longest text field of a record as it is written, so that a record with three of them fits
// kMaxRecord. Escapes make a text up to six times as long.
constexpr std::size_t kMaxText = 900;
constexpr std::size_t kMaxPhrase = 120;

std::string dump(const json& object) {
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string cut(std::string_view text, std::size_t most = kMaxText) {
  std::string part(text.substr(0, most));
  std::size_t size = dump(part).size() - 2;
  if (part.size() == text.size() && size <= most) return part;
  while (size > most) {
    part.resize(part.size() * most / size);
    size = dump(part).size() - 2;
  }
  // Not in the middle of a character.
  while (!part.empty() && (part.back() & 0xc0) == 0x80) part.pop_back();
  if (!part.empty() && (part.back() & 0x80) != 0) part.pop_back();
  return part + "…";
}

json base(const char* type) {
  return json{{"v", kProtocolVersion}, {"type", type}};
}

json to_json(const Executes& m) {
  json object = base("executes");
  object["interpreter"] = cut(m.interpreter);
  return object;
}
json to_json(const Loaded& m) {
  json object = base("loaded");
  object["interpreter"] = cut(m.interpreter);
  object["python"] = cut(m.python);
  object["interface"] = m.interface;
  object["duration_ms"] = m.duration_ms;
  json left = json::array();
  for (const auto& what : m.left_open) {
    if (left.size() == 8) {
      left.push_back("and " + std::to_string(m.left_open.size() - 8) + " more");
      break;
    }
    left.push_back(cut(what, kMaxPhrase));
  }
  object["left_open"] = std::move(left);
  return object;
}
json to_json(const LoadFailed& m) {
  json object = base("load_failed");
  object["stage"] = m.stage;
  object["error"] = cut(m.error);
  object["exit_status"] = m.exit_status;
  return object;
}
json to_json(const Forked& m) {
  json object = base("forked");
  object["worker"] = m.worker;
  object["pid"] = m.pid;
  return object;
}
json to_json(const ForkFailed& m) {
  json object = base("fork_failed");
  object["worker"] = m.worker;
  object["error"] = cut(m.error);
  return object;
}
json to_json(const Fork& m) {
  json object = base("fork");
  object["worker"] = m.worker;
  object["slot"] = m.slot;
  object["record"] = m.record;
  object["max_requests"] = m.max_requests;
  return object;
}
json to_json(const Ready& m) {
  json object = base("ready");
  object["interface"] = m.interface;
  return object;
}
json to_json(const BootFailed& m) {
  json object = base("boot_failed");
  object["stage"] = m.stage;
  object["error"] = cut(m.error);
  object["exit_status"] = m.exit_status;
  return object;
}
json to_json(const LastWords&) {
  return base("last_words");
}
json to_json(const StoppedAccepting&) {
  return base("stopped_accepting");
}
json to_json(const Stuck& m) {
  json object = base("stuck");
  object["threads"] = m.threads;
  return object;
}
json to_json(const Spent&) {
  return base("spent");
}
json to_json(const Listen& m) {
  json object = base("listen");
  json entries = json::array();
  for (const auto& entry : m.entries) {
    entries.push_back(
        {{"id", entry.id}, {"address", cut(entry.address)}, {"shared", entry.shared}});
  }
  object["entries"] = std::move(entries);
  return object;
}
json to_json(const Release& m) {
  json object = base("release");
  object["ids"] = m.ids;
  return object;
}
json to_json(const Hold&) {
  return base("hold");
}
json to_json(const Drain& m) {
  json object = base("drain");
  object["last"] = m.last;
  object["timeout_ms"] = m.timeout_ms;
  return object;
}
json to_json(const Quit&) {
  return base("quit");
}
json to_json(const TryAccept&) {
  return base("try_accept");
}
json to_json(const CloseAfterResponse&) {
  return base("close_after_response");
}
json to_json(const KeepAfterResponse&) {
  return base("keep_after_response");
}
json to_json(const Reopen& m) {
  json object = base("reopen");
  object["serial"] = m.serial;
  object["log"] = m.log;
  object["access_log"] = m.access_log;
  return object;
}
json to_json(const Reopened& m) {
  json object = base("reopened");
  object["serial"] = m.serial;
  return object;
}
json to_json(const SetLogLevel& m) {
  json object = base("set_log_level");
  object["level"] = static_cast<int>(m.level);
  return object;
}

// The commands that molds and workers have in common.
template <typename T>
std::optional<T> decode_for_both(const std::string& type, const json& o) {
  if (type == "reopen") {
    return Reopen{o.at("serial").get<std::uint64_t>(), o.at("log").get<bool>(),
                  o.at("access_log").get<bool>()};
  }
  if (type == "set_log_level") {
    const int level = o.at("level").get<int>();
    if (level < static_cast<int>(LogLevel::debug) || level > static_cast<int>(LogLevel::error))
      return std::nullopt;
    return SetLogLevel{static_cast<LogLevel>(level)};
  }
  return std::nullopt;
}

template <typename Variant>
std::string encode_any(const Variant& message) {
  std::string text = dump(std::visit([](const auto& m) { return to_json(m); }, message));
  CHECK(text.size() <= kMaxRecord);
  return text;
}

// Parses a record and hands it to `build(type, object)`; nlohmann's exceptions stop here.
template <typename T, typename Build>
Result<T> decode_any(std::string_view text, Build build) {
  try {
    const json object = json::parse(text);
    if (object.at("v").get<int>() != kProtocolVersion) {
      return Error("channel: protocol version " + object.at("v").dump() + ", this program speaks " +
                   std::to_string(kProtocolVersion));
    }
    const auto type = object.at("type").get<std::string>();
    std::optional<T> message = build(type, object);
    if (!message) return Error("channel: unknown record type '" + type + "'");
    return std::move(*message);
  } catch (const json::exception& error) {
    return Error(std::string("channel: bad record: ") + error.what());
  }
}

}  // namespace

std::string encode(const MoldOrder& order) {
  return dump(json{{"v", kProtocolVersion},
                   {"generation", order.generation},
                   {"load", order.load},
                   {"check_only", order.check_only},
                   {"settings", order.settings}});
}

Result<MoldOrder> decode_mold_order(std::string_view text) {
  try {
    json object = json::parse(text);
    if (object.at("v").get<int>() != kProtocolVersion) {
      return Error("mold order: another protocol version");
    }
    MoldOrder order;
    order.generation = object.at("generation").get<int>();
    order.load = object.at("load").get<bool>();
    order.check_only = object.at("check_only").get<bool>();
    order.settings = std::move(object.at("settings"));
    return order;
  } catch (const json::exception& error) {
    return Error(std::string("mold order: ") + error.what());
  }
}

std::string encode(const MoldMessage& message) {
  return encode_any(message);
}
std::string encode(const MoldCommand& message) {
  return encode_any(message);
}
std::string encode(const WorkerMessage& message) {
  return encode_any(message);
}
std::string encode(const WorkerCommand& message) {
  return encode_any(message);
}

Result<MoldMessage> decode_mold_message(std::string_view text) {
  return decode_any<MoldMessage>(
      text, [](const std::string& type, const json& o) -> std::optional<MoldMessage> {
        if (type == "loaded") {
          Loaded m;
          m.interpreter = o.at("interpreter").get<std::string>();
          m.python = o.at("python").get<std::string>();
          m.interface = o.at("interface").get<std::string>();
          m.duration_ms = o.at("duration_ms").get<std::int64_t>();
          m.left_open = o.at("left_open").get<std::vector<std::string>>();
          return m;
        }
        if (type == "load_failed") {
          return LoadFailed{o.at("stage").get<std::string>(), o.at("error").get<std::string>(),
                            o.at("exit_status").get<int>()};
        }
        if (type == "forked") {
          return Forked{o.at("worker").get<std::uint64_t>(), o.at("pid").get<int>()};
        }
        if (type == "fork_failed") {
          return ForkFailed{o.at("worker").get<std::uint64_t>(), o.at("error").get<std::string>()};
        }
        if (type == "executes") return Executes{o.at("interpreter").get<std::string>()};
        if (type == "last_words") return LastWords{};
        if (type == "reopened") return Reopened{o.at("serial").get<std::uint64_t>()};
        return std::nullopt;
      });
}

Result<MoldCommand> decode_mold_command(std::string_view text) {
  return decode_any<MoldCommand>(
      text, [](const std::string& type, const json& o) -> std::optional<MoldCommand> {
        if (type == "fork") {
          return Fork{o.at("worker").get<std::uint64_t>(), o.at("slot").get<int>(),
                      o.at("record").get<int>(),
                      // A supervisor that an older build runs may not send it.
                      o.value("max_requests", std::uint64_t{0})};
        }
        return decode_for_both<MoldCommand>(type, o);
      });
}

Result<WorkerMessage> decode_worker_message(std::string_view text) {
  return decode_any<WorkerMessage>(
      text, [](const std::string& type, const json& o) -> std::optional<WorkerMessage> {
        if (type == "ready") return Ready{o.at("interface").get<std::string>()};
        if (type == "boot_failed") {
          return BootFailed{o.at("stage").get<std::string>(), o.at("error").get<std::string>(),
                            o.at("exit_status").get<int>()};
        }
        if (type == "stopped_accepting") return StoppedAccepting{};
        if (type == "last_words") return LastWords{};
        if (type == "spent") return Spent{};
        if (type == "stuck") return Stuck{o.at("threads").get<int>()};
        if (type == "reopened") return Reopened{o.at("serial").get<std::uint64_t>()};
        return std::nullopt;
      });
}

Result<WorkerCommand> decode_worker_command(std::string_view text) {
  return decode_any<WorkerCommand>(
      text, [](const std::string& type, const json& o) -> std::optional<WorkerCommand> {
        if (type == "listen") {
          Listen m;
          for (const auto& entry : o.at("entries")) {
            m.entries.push_back({entry.at("id").get<std::uint64_t>(),
                                 entry.at("address").get<std::string>(),
                                 entry.at("shared").get<bool>()});
          }
          return m;
        }
        if (type == "release") return Release{o.at("ids").get<std::vector<std::uint64_t>>()};
        if (type == "hold") return Hold{};
        if (type == "drain") {
          return Drain{o.at("last").get<bool>(), o.at("timeout_ms").get<std::int64_t>()};
        }
        if (type == "quit") return Quit{};
        if (type == "try_accept") return TryAccept{};
        if (type == "close_after_response") return CloseAfterResponse{};
        if (type == "keep_after_response") return KeepAfterResponse{};
        return decode_for_both<WorkerCommand>(type, o);
      });
}

}  // namespace mgr::ipc
