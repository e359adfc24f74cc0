// A program that goes on from the state of another: as a trial, in its place, or back again.

#include <fmt/core.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "common/base/process_title.h"
#include "common/ipc/channel.h"
#include "common/settings/checks.h"
#include "common/settings/table.h"
#include "manager/program_version.h"
#include "manager/supervisor/control_answer.h"
#include "manager/supervisor/fallback.h"
#include "manager/supervisor/run.h"
#include "manager/supervisor/saved_state.h"
#include "manager/supervisor/supervisor.h"
#include "manager/supervisor/upgrade.h"

namespace mgr::manager {
namespace {

using nlohmann::json;

constexpr std::size_t kMostWords = 1000;

// Everything of the state that comes before there is a supervisor to restore.
struct Inherited {
  LoadedSettings settings;
  LogFiles files;
  UniqueFd scoreboard;
  std::string version;  // of the program before
  std::string program;
  bool asked = false;
  UniqueFd asker;  // the connection that waits for the outcome
};

Result<Inherited> inherit(const StateReader& reader) {
  Inherited inherited;
  const json& document = reader.document();
  auto got = reading("settings and logs", [&] {
    auto values = Settings::from_json(document.at("settings"));
    if (!values) throw Unreadable{values.error().message()};
    inherited.settings.values = std::move(*values);
    // Settings that the program before did not know have their defaults.
    for (const auto& setting : settings::table()) {
      inherited.settings.origins[setting.name] =
          document.at("origins").value(setting.name, "default");
    }
    const json& log = document.at("log");
    inherited.files = LogFiles::adopt(inherited.settings.values, reader.take(log.at("file")),
                                      reader.take(log.at("access")));
    inherited.scoreboard = reader.take(document.at("scoreboard"));
    inherited.version = document.at("version").get<std::string>();
    inherited.program = document.at("program").get<std::string>();
    inherited.asked = document.at("asked").get<bool>();
    inherited.asker = reader.take(document.at("asker"));
  });
  if (!got) return std::move(got).error();
  return inherited;
}

// What has opened the way must not be destroyed: sockets would be closed, and paths removed, that
// the program before needs.
[[noreturn]] void give_up(const Resume& resume, const Error& error) {
  switch (resume.role) {
    case Resume::Role::successor:
      Fallback::take(error.message());
    case Resume::Role::probe:
    case Resume::Role::returned:
      break;
  }
  fmt::print(stderr, "mgr: {}\n", error.message());
  std::fflush(stderr);
  ::_exit(1);
}

// A probe knows the answer now. Its settings are looked at too: nobody wants a program that could
// not be started again.
[[noreturn]] void answer_probe(const Resume& resume, const SettingsLoader& loader) {
  auto loaded = loader.load();
  if (!loaded) give_up(resume, loaded.error());
  if (loaded->values.app.empty()) give_up(resume, Error(settings::kNoApplication));
  if (auto fit = check_on_this_machine(loaded->values); !fit) give_up(resume, fit.error());
  std::printf("%s%s\n", kProbeAnswer, program_version());
  std::fflush(stdout);
  ::_exit(0);
}

void answer(UniqueFd connection, const Outcome& outcome) {
  if (!connection) return;
  const std::string text = ControlAnswer::to_change(outcome).as_http();
  (void)::send(connection.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ::shutdown(connection.get(), SHUT_WR);
}

std::string words_of(const Resume& resume) {
  auto words = ipc::read_all(resume.words, kMostWords);
  return words && !words->empty() ? *words : "it did not say why";
}

// What the first turn of the loop begins with.
class Takeover {
 public:
  Takeover(Supervisor& supervisor, const Log& log, Inherited& inherited, StateReader& reader,
           const Resume& resume)
      : supervisor_(supervisor),
        log_(log),
        inherited_(inherited),
        reader_(reader),
        resume_(resume) {}

  void begin() {
    const std::string why = resume_.role == Resume::Role::returned ? words_of(resume_) : "";
    Fallback::disarm();
    reader_.close_originals();
    for (const int fd : {resume_.state, resume_.before, resume_.words}) {
      if (fd >= 0) ::close(fd);
    }
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    supervisor_.go_on();
    if (resume_.role == Resume::Role::returned) return tell_failure(why);
    replace_workers();
  }

 private:
  void tell_failure(const std::string& why) {
    Outcome outcome{
        .ok = false,
        .message = fmt::format("refused: the new program failed before its loop turned: "
                               "{}; mgr {} goes on",
                               why, program_version())};
    log_.error("upgrade: {}", outcome.message);
    answer(std::move(inherited_.asker), outcome);
  }

  void replace_workers() {
    const std::string replaced =
        fmt::format("mgr {} is in the place of {}", program_version(), inherited_.version);
    log_.info("upgrade: {}; its molds and workers are replaced now", replaced);
    supervisor_.reload([this, replaced](const Outcome& reloaded) {
      Outcome outcome = reloaded;
      outcome.message =
          reloaded.ok ? replaced + ": " + reloaded.message
                      : replaced + ", but its workers are those of before: " + reloaded.message;
      if (reloaded.ok) {
        log_.info("upgrade finished: {}", outcome.message);
      } else {
        log_.error("upgrade: {}", outcome.message);
      }
      answer(std::move(inherited_.asker), outcome);
    });
  }

  Supervisor& supervisor_;
  const Log& log_;
  Inherited& inherited_;
  StateReader& reader_;
  const Resume& resume_;
};

}  // namespace

int resume_supervisor(SettingsLoader loader, const Program& started) {
  const Resume& resume = *started.resume();
  auto reader = StateReader::read(resume.state);
  if (!reader) give_up(resume, reader.error());
  auto inherited = inherit(*reader);
  if (!inherited) give_up(resume, inherited.error());
  Program program = started;
  program.set_path(inherited->program);
  const bool probe = resume.role == Resume::Role::probe;
  const Settings settings = inherited->settings.values;
  // An execution by descriptor has named the process after that.
  set_process_title("mgr: supervisor " + settings.derived_name(), "mgr");
  Log log(probe ? STDERR_FILENO : inherited->files.log_fd(), settings.log_format,
          settings.log_level, "supervisor");
  auto scoreboard = ipc::Scoreboard::attach(inherited->scoreboard.get());
  if (!scoreboard) give_up(resume, scoreboard.error());
  inherited->scoreboard.reset();  // attach() has made a copy
  auto account = find_account(settings.user, settings.group);
  if (!account) give_up(resume, account.error());
  Supervisor supervisor(inherited->settings, log, inherited->files, std::move(*scoreboard),
                        std::move(*account));
  supervisor.set_loader(loader);
  supervisor.set_program(program);
  if (auto restored = supervisor.restore(*reader); !restored) give_up(resume, restored.error());
  if (probe) answer_probe(resume, loader);

  supervisor.reload_on_change();
  log.info("mgr {} takes over from {}", program_version(), inherited->version);
  Takeover takeover(supervisor, log, *inherited, *reader, resume);
  return supervisor.run_on([&takeover] { takeover.begin(); });
}

}  // namespace mgr::manager
