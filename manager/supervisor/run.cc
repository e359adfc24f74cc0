#include "manager/supervisor/run.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "common/base/process_title.h"
#include "common/net/control_path.h"
#include "common/settings/cpus.h"
#include "common/settings/hooks.h"
#include "manager/program_version.h"
#include "manager/supervisor/open_files.h"
#include "manager/supervisor/pidfile.h"
#include "manager/supervisor/privileges.h"
#include "manager/supervisor/supervisor.h"

namespace mgr::manager {
namespace {

constexpr int kExitFailure = 1;

// Every slot has a socket for each address, every worker a channel: more than the usual 1,024.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

int fail(const Log& log, const Error& error) {
  log.error("cannot start: {}", error.message());
  return kExitFailure;
}

int fail_without_log(const Error& error) {
  fmt::print(stderr, "{}mgr: {}\n", journal_prefix(2, LogLevel::error), error.message());
  return kExitFailure;
}

// Where its own program is, what its workers take: much is read there.
Result<void> needs_proc() {
  if (::access("/proc/self/exe", F_OK) == 0) return {};
  return Error("/proc is not mounted here, and mgr needs it");
}

Result<std::string> control_address(const Settings& settings) {
  if (settings.control == "off") return std::string();
  if (!settings.control.empty()) return settings.control;
  return net::choose_control_socket(settings.derived_name(), net::ControlEnvironment::of_process());
}

}  // namespace

int run_supervisor(SettingsLoader loader, LoadedSettings loaded, const Program& program) {
  const NotifyOptions service_manager = NotifyOptions::take_from_environment();
  InheritedSockets inherited = InheritedSockets::take_from_environment();
  const Settings settings = loaded.values;
  ::umask(static_cast<mode_t>(settings.umask));
  auto files = LogFiles::open(settings);
  if (!files) return fail_without_log(files.error());
  Log log(files->log_fd(), settings.log_format, settings.log_level, "supervisor");
  for (const auto& warning : loaded.warnings) log.warning("{}", warning);
  // Whoever starts it by hand looks at standard error, not at log_file.
  const auto not_started = [&](const Error& error) {
    if (!settings.log_file.empty()) (void)fail_without_log(error);
    return fail(log, error);
  };
  if (auto proc = needs_proc(); !proc) return not_started(proc.error());
  const int workers = wanted_workers(settings);
  log.info("mgr {} starts {}: {} worker{}", program_version(), settings.app, workers,
           workers == 1 ? "" : "s");
  auto account = find_account(settings.user, settings.group);
  if (!account) return not_started(account.error());
  if (*account) keep_few_capabilities();
  std::optional<PidFile> pidfile;
  if (!settings.pidfile.empty()) {
    auto taken = PidFile::take(settings.pidfile);
    if (!taken) return not_started(taken.error());
    pidfile.emplace(std::move(*taken));
  }
  set_process_title("mgr: supervisor " + settings.derived_name(), "mgr");
  raise_descriptor_limit();
  const int needed = workers * (static_cast<int>(settings.bind.size()) + kFilesOfWorker);
  if (auto room = room_for(needed); !room) {
    return not_started(std::move(room).error().with(fmt::format("workers: {}", workers)));
  }
  auto scoreboard = ipc::Scoreboard::create();
  if (!scoreboard) return not_started(scoreboard.error());
  auto control = control_address(settings);
  if (!control) return not_started(control.error());

  Supervisor supervisor(std::move(loaded), log, *files, std::move(*scoreboard),
                        std::move(*account));
  if (pidfile) supervisor.hold(std::move(*pidfile));
  supervisor.set_loader(loader);
  supervisor.set_program(program);
  supervisor.inherit(std::move(inherited));
  supervisor.reload_on_change();
  supervisor.notify(service_manager);
  if (!control->empty()) {
    auto opened = supervisor.open_control(*control, settings.derived_name());
    if (!opened) return not_started(opened.error());
  }
  if (auto opened = supervisor.open_admin(settings.admin); !opened) {
    return not_started(opened.error());
  }
  if (auto bound = supervisor.bind(workers); !bound) return not_started(bound.error());
  const int status = supervisor.run(workers, Supervisor::Until::told);
  if (!settings.log_file.empty() && !supervisor.start_failure().empty()) {
    (void)fail_without_log(Error(supervisor.start_failure() + ", see " + settings.log_file));
  }
  return status;
}

int check_application(const Settings& given) {
  Settings settings = given;
  settings.reload_on_change = false;  // what is wrong is said once
  // They tell others about a service, and this is none.
  for (const std::string_view event : settings::kCommandHooks) {
    settings.hooks.erase(std::string(event));
  }
  Log log(2, settings.log_format, settings.log_level, "check");
  if (auto proc = needs_proc(); !proc) return fail(log, proc.error());
  auto scoreboard = ipc::Scoreboard::create();
  if (!scoreboard) return fail(log, scoreboard.error());
  LogFiles files;
  auto account = find_account(settings.user, settings.group);
  if (!account) return fail(log, account.error());
  Supervisor supervisor(LoadedSettings{settings, {}, {}}, log, files, std::move(*scoreboard),
                        std::move(*account));
  const int status = supervisor.run(1, Supervisor::Until::first_ready);
  if (status == 0) std::printf("%s: loads and starts\n", settings.app.c_str());
  return status;
}

}  // namespace mgr::manager
