#include "manager/supervisor/log_control.h"

#include <fmt/core.h>

#include <utility>

namespace mgr::manager {

LogControl::LogControl(EventLoop& loop, ProcessWorld& world, LogFiles& files, Log& log)
    : world_(world), files_(files), log_(log), patience_(loop, [this] { finish(); }) {}

void LogControl::reopen(Done done) {
  if (!files_.has_log_file() && !files_.has_access_file()) {
    return done({.message = "nothing to reopen: neither log_file nor access_log is a file"});
  }
  if (auto reopened = files_.reopen(); !reopened) {
    const std::string why = reopened.error().message();
    log_.error("log files are not reopened: {}; the old ones are written on", why);
    return done({.ok = false, .message = why});
  }
  log_.info("log files reopened");
  waiting_.push_back(std::move(done));
  missing_ = world_.give_log_files(
      ipc::Reopen{++serial_, files_.has_log_file(), files_.has_access_file()});
  if (missing_.empty()) return finish();
  patience_.start(kPatience);
}

void LogControl::taken(std::uint64_t who, std::uint64_t serial) {
  if (serial != serial_ || missing_.erase(who) == 0) return;
  if (missing_.empty()) finish();
}

void LogControl::finish() {
  patience_.stop();
  std::erase_if(missing_, [this](std::uint64_t who) { return !world_.knows(who); });
  Outcome outcome{.message = "log files reopened"};
  if (!missing_.empty()) {
    outcome.message +=
        fmt::format("; {} process{} busy and take{} them later", missing_.size(),
                    missing_.size() == 1 ? " is" : "es are", missing_.size() == 1 ? "s" : "");
    log_.warning("{}", outcome.message);
  }
  missing_.clear();
  for (const auto& done : std::exchange(waiting_, {})) done(outcome);
}

}  // namespace mgr::manager
