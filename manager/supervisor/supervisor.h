#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/base/current_directory.h"
#include "common/base/log.h"
#include "common/ipc/scoreboard.h"
#include "common/loop/event_loop.h"
#include "common/server/server.h"
#include "common/settings/sources/loader.h"
#include "manager/supervisor/admin.h"
#include "manager/supervisor/auto_reload.h"
#include "manager/supervisor/bind_change.h"
#include "manager/supervisor/control_api.h"
#include "manager/supervisor/event_stream.h"
#include "manager/supervisor/hooks.h"
#include "manager/supervisor/lifecycle.h"
#include "manager/supervisor/listeners.h"
#include "manager/supervisor/log_control.h"
#include "manager/supervisor/log_files.h"
#include "manager/supervisor/metrics.h"
#include "manager/supervisor/notify.h"
#include "manager/supervisor/pidfile.h"
#include "manager/supervisor/process_world.h"
#include "manager/supervisor/program.h"
#include "manager/supervisor/saved_state.h"
#include "manager/supervisor/status.h"
#include "manager/supervisor/upgrade.h"

namespace mgr::manager {

// The supervisor process put together: one loop, on which arrive signals, the ends of children,
// records of molds and workers, and control calls; each goes to the Lifecycle, which decides.
class Supervisor {
 public:
  // `account`: whom the application runs as, where it is another.
  Supervisor(LoadedSettings loaded, Log& log, LogFiles& files, ipc::Scoreboard scoreboard,
             std::optional<Account> account);
  ~Supervisor();

  // Takes the control socket `address` (a path or '@' and a name). Errors: a live supervisor has
  // it, no permission. None when never called.
  Result<void> open_control(const std::string& address, const std::string& name);
  // What the service manager has passed; before the three below.
  void inherit(InheritedSockets sockets) { inherited_ = std::move(sockets); }
  // Takes the setting `admin`; empty: what was inherited alone, if anything. Errors: as bind.
  Result<void> open_admin(const std::string& address);
  // Binds the addresses of the settings and the inherited sockets.
  Result<void> bind(int slots);
  // How a reload gets its settings; without it a reload is refused.
  void set_loader(const SettingsLoader& loader) { loader_ = loader; }
  // Reloads by itself from now on, as the settings say.
  void reload_on_change();
  // Tells the service manager from now on.
  void notify(const NotifyOptions& options);
  // Removes the pidfile at the end.
  void hold(PidFile pidfile) { pidfile_.emplace(std::move(pidfile)); }
  // What an upgrade replaces; without it one is refused.
  void set_program(const Program& program);

  // Everything that a successor needs (saved_state.h).
  void save(StateWriter& writer) const;
  // Takes what save() wrote, in place of open_control(), open_admin(), bind() and notify(). Does
  // nothing to the outside.
  Result<void> restore(const StateReader& reader);

  enum class Until { told, first_ready };
  // Until it was told to stop (or, for `mgr check`, until the first worker is ready; told to stop
  // before that, the check has failed). Returns the exit status.
  int run(int workers, Until until);
  // After run(): why the first start failed, as the log's last line says it; else empty.
  const std::string& start_failure() const { return lifecycle_.last_words(); }
  // The same after restore(): `began` is called first of all in the loop, and then lets go_on()
  // follow.
  int run_on(std::function<void()> began);
  void go_on();
  void reload(Done done, Lifecycle::WhileReloading policy = Lifecycle::WhileReloading::refuse);

 private:
  int turn();
  void serve_control(UniqueFd socket, const std::string& address, const std::string& name);
  void accept_control(bool accept);
  void watch_signals();
  void watch_signals_of_check();
  void on_signal(int signal, std::function<void()> action);
  void reap();
  void on_exit(pid_t pid, int status);
  nlohmann::json describe_settings() const;
  void upgrade(std::function<int()> asker, Done done);
  void set_log_level(LogLevel level, const Done& done);
  void on_event(const Event& event);
  bool listen(server::Exchange& exchange);
  Result<UniqueFd> bind_control(const std::string& address) const;
  void restore_control();
  void enter_start_directory() const;
  void take_stack(int slot, std::function<void(const Result<nlohmann::ordered_json>&)> done);
  Result<Lifecycle::Prepared> prepare_reload();
  // What `bind` asks for beside `inherited` sockets.
  static Result<std::vector<net::BindAddress>> addresses_of(const LoadedSettings& settings,
                                                            bool inherited);
  // Gives `fresh` the running values of these settings.
  Result<void> keep_old(LoadedSettings& fresh, const std::vector<std::string>& names) const;
  ControlApi::Actions actions();
  std::unique_ptr<Admin> make_admin();
  static ProcessWorld::Options world_options(const LogFiles& files,
                                             const std::optional<Account>& account);

  EventLoop loop_;
  LoadedSettings loaded_;
  std::optional<LoadedSettings> pending_;  // of the reload under way
  const std::string start_directory_ = current_directory();
  std::optional<SettingsLoader> loader_;
  Log& log_;
  const LogFiles& files_;
  InheritedSockets inherited_;
  const std::optional<Account> account_;
  Listeners listeners_;
  ProcessWorld world_;
  Lifecycle lifecycle_;
  BindChange bind_change_;
  EventStream events_;
  Hooks hooks_;
  LogControl log_control_;
  std::optional<LogLevel>
      log_level_;  // by `mgr log-level`, until a reload changes that of the settings
  Metrics metrics_;
  std::vector<SignalWatcher> signals_;
  std::map<pid_t, int> unknown_exits_;  // reaped before the mold said whose they are
  int exit_status_ = 0;
  bool left_ = false;  // told to end, with that
  std::optional<Timer> check_;
  bool check_passed_ = false;
  std::optional<AutoReload> auto_reload_;  // none: `reload_on_change` is off
  std::optional<Notifier> notifier_;       // none: nobody wants to know
  // The control API; absent with `control: off`.
  std::unique_ptr<Status> status_;
  std::unique_ptr<ControlApi> api_;
  ipc::WorkerRecord control_counters_;
  std::unique_ptr<server::Server> control_;
  std::unique_ptr<Admin> admin_;  // absent with `admin: off`
  std::string control_path_;      // to remove at the end
  std::string control_address_;
  UniqueFd control_socket_;  // the server has a copy while it accepts
  std::string name_;
  std::unique_ptr<Upgrade> upgrade_;
  std::optional<PidFile> pidfile_;
};

}  // namespace mgr::manager
