// The supervisor itself, for the program that takes its place: what is in no other part.

#include <algorithm>
#include <iterator>

#include "manager/supervisor/saved_state.h"
#include "manager/supervisor/supervisor.h"

namespace mgr::manager {
namespace {

using nlohmann::json;

// The same number means the same state in every version.
constexpr ServiceReport::State kReportStates[] = {
    ServiceReport::State::starting, ServiceReport::State::ready, ServiceReport::State::reloading,
    ServiceReport::State::stopping};

json save(const ServiceReport& report) {
  const auto state = std::find(std::begin(kReportStates), std::end(kReportStates), report.state);
  return {{"state", state - std::begin(kReportStates)},
          {"status", report.status},
          {"patience", to_saved(report.patience)}};
}

ServiceReport report_from(const json& saved) {
  const auto state = saved.at("state").get<std::size_t>();
  if (state >= std::size(kReportStates)) throw Unreadable{"no such state"};
  return {kReportStates[state], saved.at("status").get<std::string>(),
          time_from_saved(saved.at("patience"))};
}

LogLevel level_of(const Log& log) {
  for (const auto level : {LogLevel::debug, LogLevel::info, LogLevel::warning}) {
    if (log.enabled(level)) return level;
  }
  return LogLevel::error;
}

}  // namespace

json Notifier::save() const {
  json waiting = json::array();
  for (const auto& message : waiting_) {
    if (!message.descriptor) waiting.push_back(message.text);
  }
  return {{"socket", options_.socket},
          {"watchdog_us", options_.watchdog.count()},
          {"told", to_saved(told_, [](const ServiceReport& told) { return manager::save(told); })},
          {"store", options_.store},
          {"kept", kept_},
          {"waiting", std::move(waiting)}};
}

NotifyOptions Notifier::options_from(const json& saved) {
  return {saved.at("socket").get<std::string>(),
          std::chrono::microseconds(saved.at("watchdog_us").get<std::int64_t>()),
          saved.at("store").get<int>()};
}

void Notifier::restore(const json& saved) {
  told_ = optional_from_saved(saved.at("told"), report_from);
  kept_ = saved.at("kept").get<std::set<std::string>>();
  for (const auto& text : saved.at("waiting")) waiting_.push_back({text.get<std::string>()});
  if (!waiting_.empty()) again_.start(Millis(0));
}

json Admin::save(StateWriter& writer) const {
  json saved = json::array();
  for (const auto& [address, socket] : sockets_) {
    saved.push_back({{"address", address}, {"fd", writer.keep(socket.get())}});
  }
  return saved;
}

Result<void> Admin::restore(const json& saved, const StateReader& reader) {
  return reading("admin", [&] {
    for (const auto& one : saved) {
      listen(reader.take(one.at("fd")), one.at("address").get<std::string>());
    }
  });
}

void Supervisor::save(StateWriter& writer) const {
  json& document = writer.document;
  document["settings"] = loaded_.values.to_json();
  document["origins"] = loaded_.origins;
  document["log"] = {{"file", writer.keep(files_.own_log_fd())},
                     {"access", writer.keep(files_.access_fd())},
                     {"level", static_cast<int>(level_of(log_))},
                     {"level_was_set", log_level_.has_value()},
                     {"dropped", metrics_.dropped()}};
  document["scoreboard"] = writer.keep(world_.scoreboard().fd());
  document["listeners"] = listeners_.save(writer);
  document["world"] = world_.save(writer);
  document["lifecycle"] = lifecycle_.save();
  document["unknown_exits"] = json::array();
  for (const auto& [pid, status] : unknown_exits_) {
    document["unknown_exits"].push_back({{"pid", pid}, {"status", status}});
  }
  document["control"] = nullptr;
  if (control_) {
    document["control"] = {{"address", control_address_},
                           {"name", name_},
                           {"fd", writer.keep(control_socket_.get())},
                           {"started", to_saved(status_->started())}};
  }
  document["admin"] = admin_ ? admin_->save(writer) : json(nullptr);
  document["pidfile"] = nullptr;
  if (pidfile_) {
    document["pidfile"] = {{"path", pidfile_->path()}, {"fd", writer.keep(pidfile_->fd())}};
  }
  document["notify"] = notifier_ ? notifier_->save() : json(nullptr);
}

Result<void> Supervisor::restore(const StateReader& reader) {
  const json& document = reader.document();
  const auto part = [&](const char* name) -> const json& {
    static const json kNothing;
    const auto found = document.find(name);
    return found == document.end() ? kNothing : *found;
  };
  if (auto done = listeners_.restore(part("listeners"), reader); !done) return done;
  if (auto done = world_.restore(part("world"), reader); !done) return done;
  if (auto done = lifecycle_.restore(part("lifecycle")); !done) return done;
  if (const json& admin = part("admin"); !admin.is_null()) {
    admin_ = make_admin();
    if (auto done = admin_->restore(admin, reader); !done) return done;
  }
  return reading("supervisor", [&] {
    for (const auto& one : document.at("unknown_exits")) {
      unknown_exits_[one.at("pid").get<pid_t>()] = one.at("status").get<int>();
    }
    const json& log = document.at("log");
    const auto level = static_cast<LogLevel>(log.at("level").get<int>());
    log_.set_level(level);
    if (log.value("level_was_set", false)) log_level_ = level;
    metrics_.set_dropped_before(log.at("dropped").get<std::uint64_t>());
    if (const json& control = document.at("control"); !control.is_null()) {
      serve_control(reader.take(control.at("fd")), control.at("address").get<std::string>(),
                    control.at("name").get<std::string>());
      status_->set_started(time_from_saved(control.at("started")));
    }
    if (const json& held = part("pidfile"); !held.is_null()) {
      hold(PidFile::adopt(reader.take(held.at("fd")), held.at("path").get<std::string>()));
    }
    if (const json& notified = document.at("notify"); !notified.is_null()) {
      notify(Notifier::options_from(notified));
      notifier_->restore(notified);
    }
  });
}

}  // namespace mgr::manager
