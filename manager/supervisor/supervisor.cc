#include "manager/supervisor/supervisor.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/base/current_directory.h"
#include "common/net/address.h"
#include "common/net/unix_socket.h"
#include "common/server/response_head.h"
#include "common/settings/checks.h"
#include "common/settings/cpus.h"
#include "common/settings/table.h"
#include "manager/supervisor/control_answer.h"
#include "manager/supervisor/mold_process.h"

namespace mgr::manager {
namespace {

// Ends of children nobody knows are kept so long as the mold's report may still come; orphans of
// the application are reaped by the thousand, so there is a bound.
constexpr std::size_t kMostUnknownExits = 256;

constexpr int kControlBacklog = 128;

server::ServerOptions::Message refusal(int status, std::string_view reason) {
  auto answer = ControlAnswer::problem(status, server::reason_phrase(status), reason,
                                       nlohmann::ordered_json::object());
  return {std::move(answer.type), std::move(answer.body)};
}

}  // namespace

ProcessWorld::Options Supervisor::world_options(const LogFiles& files,
                                                const std::optional<Account>& account) {
  ProcessWorld::Options options;
  options.worker_program = libexec_directory() + "/mgr-worker";
  options.log_fd = files.log_fd();
  options.access_log_fd = files.access_fd();
  options.account = account;
  return options;
}

Supervisor::Supervisor(LoadedSettings loaded, Log& log, LogFiles& files, ipc::Scoreboard scoreboard,
                       std::optional<Account> account)
    : loaded_(std::move(loaded)),
      log_(log),
      files_(files),
      account_(std::move(account)),
      listeners_({.backlog = loaded_.values.backlog,
                  .socket_mode = loaded_.values.socket_mode,
                  .socket_group = loaded_.values.socket_group,
                  .share = loaded_.values.balance == "shared"},
                 log),
      world_(loop_, log, listeners_, std::move(scoreboard), world_options(files, account_)),
      lifecycle_(world_, log),
      bind_change_(loop_, listeners_, [this] { lifecycle_.on_sockets_changed(); }),
      hooks_(loop_, log),
      log_control_(loop_, world_, files, log),
      metrics_({world_, lifecycle_, listeners_, world_.scoreboard(), world_.totals(), log}) {
  world_.set_events(
      {.mold_message =
           [this](MoldId mold, const ipc::MoldMessage& message, std::string traceback) {
             lifecycle_.on_mold_message(mold, message, std::move(traceback));
             if (const auto* forked = std::get_if<ipc::Forked>(&message)) {
               if (auto early = unknown_exits_.extract(forked->pid)) {
                 on_exit(early.key(), early.mapped());
               }
             }
           },
       .worker_message =
           [this](WorkerId worker, const ipc::WorkerMessage& message, std::string traceback) {
             lifecycle_.on_worker_message(worker, message, std::move(traceback));
           },
       .worker_channel_closed = [this](WorkerId id) { lifecycle_.on_worker_channel_closed(id); },
       .log_files_taken = [this](std::uint64_t who,
                                 std::uint64_t serial) { log_control_.taken(who, serial); },
       .time = [this] { lifecycle_.on_time(); },
       .look = [this] { lifecycle_.on_look(); },
       .leave =
           [this](int status) {
             exit_status_ = status;
             left_ = true;
             loop_.stop();
           }});
  lifecycle_.set_on_event([this](const Event& event) { on_event(event); });
}

Supervisor::~Supervisor() {
  if (!control_path_.empty()) ::unlink(control_path_.c_str());
}

Result<std::vector<net::BindAddress>> Supervisor::addresses_of(const LoadedSettings& settings,
                                                               bool inherited) {
  std::vector<net::BindAddress> addresses;
  const auto origin = settings.origins.find("bind");
  const bool only_default = origin == settings.origins.end() || origin->second == "default";
  if (inherited && only_default) return addresses;
  for (const auto& text : settings.values.bind) {
    auto address = net::parse_bind_address(text);
    if (!address) return std::move(address).error().with("bind");
    addresses.push_back(std::move(*address));
  }
  return addresses;
}

Result<void> Supervisor::bind(int slots) {
  auto inherited = std::move(inherited_.listeners);
  listeners_.offer(std::move(inherited_.stored));
  auto addresses = addresses_of(loaded_, !inherited.empty());
  if (!addresses) return std::move(addresses).error();
  return listeners_.open(*addresses, std::move(inherited), slots);
}

Result<UniqueFd> Supervisor::bind_control(const std::string& address) const {
  const Settings& settings = loaded_.values;
  const int mode = settings.control_mode | (settings.control_group.empty() ? 0 : 0660);
  return net::bind_unix_socket(
      address, {.mode = mode, .group = settings.control_group, .backlog = kControlBacklog});
}

// Whoever cleans directories by age may have removed it: a HUP brings it back.
void Supervisor::restore_control() {
  if (control_path_.empty() || ::access(control_path_.c_str(), F_OK) == 0) return;
  auto socket = bind_control(control_address_);
  if (!socket) {
    return log_.error("control: {}: it was removed, and {}", control_address_,
                      socket.error().message());
  }
  control_socket_ = std::move(*socket);
  control_->remove_listener(0, server::Server::Queued::take);
  accept_control(true);
  log_.warning("control socket {} was removed; it is there again", control_address_);
}

Result<void> Supervisor::open_control(const std::string& address, const std::string& name) {
  auto socket = bind_control(address);
  if (!socket) {
    if (socket.error().code() != EADDRINUSE) {
      return std::move(socket).error().with("control: " + address);
    }
    return Error(
        fmt::format("control: {}: another supervisor of this name runs already; give this one "
                    "another `name`, or stop the other",
                    address));
  }
  serve_control(std::move(*socket), address, name);
  log_.info("control socket {}", address);
  return {};
}

void Supervisor::serve_control(UniqueFd socket, const std::string& address,
                               const std::string& name) {
  const Settings& settings = loaded_.values;
  std::error_code error;
  if (address.front() != '@') control_path_ = std::filesystem::absolute(address, error).string();
  control_address_ = address;
  control_socket_ = std::move(socket);
  name_ = name;
  hooks_.set_environment({{"MGR_NAME", name}, {"MGR_CONTROL", address}});
  status_ = std::make_unique<Status>(name, world_, lifecycle_, listeners_, world_.scoreboard());
  ControlApi::Access access;
  if (!settings.control_group.empty()) {
    if (const auto* group = ::getgrnam(settings.control_group.c_str())) {
      access.control_group = group->gr_gid;
    }
  }
  if (account_) access.application = account_->uid;
  api_ = std::make_unique<ControlApi>(actions(), *status_, std::move(access), log_);
  server::ServerOptions options;
  options.limit_body = 64 * 1024;
  options.write_timeout = std::chrono::milliseconds(10'000);
  options.refusal = &refusal;
  control_ = std::make_unique<server::Server>(loop_, options, *api_, control_counters_, log_);
  accept_control(true);
}

// While it does not, clients wait in the socket's queue.
void Supervisor::accept_control(bool accept) {
  if (!control_) return;
  if (!accept) {
    events_.end();
    return control_->remove_listener(0, server::Server::Queued::leave);
  }
  if (control_->has_listener(0)) return;
  UniqueFd copy(::fcntl(control_socket_.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy) return log_.error("control: {}", Error::from_errno("dup").message());
  control_->add_listener(0, std::move(copy), control_address_, server::Server::Sharing::own);
}

std::unique_ptr<Admin> Supervisor::make_admin() {
  return std::make_unique<Admin>(
      loop_,
      Admin::Answers{.metrics = [this] { return metrics_.text(); },
                     .not_ready_reason = [this] { return lifecycle_.not_ready_reason(); },
                     .ready_text = [this] { return lifecycle_.ready_text(); }},
      log_);
}

Result<void> Supervisor::open_admin(const std::string& address) {
  if (address.empty() && inherited_.admin.empty()) return {};
  admin_ = make_admin();
  if (auto adopted = admin_->adopt(std::move(inherited_.admin)); !adopted) return adopted;
  return address.empty() ? Result<void>() : admin_->open(address);
}

ControlApi::Actions Supervisor::actions() {
  return {
      .reload = [this](Done done) { reload(std::move(done)); },
      .restart = [this](std::vector<int> slots, Done done) { lifecycle_.restart(slots, done); },
      .scale = [this](auto by, Done done) { lifecycle_.scale(by, done); },
      .stop = [this](Lifecycle::Stop kind) { lifecycle_.stop(kind); },
      .set_traffic = [this](Traffic traffic, Done done) { lifecycle_.set_traffic(traffic, done); },
      .reopen = [this](Done done) { log_control_.reopen(std::move(done)); },
      .set_log_level = [this](LogLevel level, Done done) { set_log_level(level, done); },
      .upgrade = [this](auto asker, Done done) { upgrade(std::move(asker), std::move(done)); },
      .when_stopped = [this](auto callback) { lifecycle_.when_stopped(callback); },
      .config = [this] { return describe_settings(); },
      .not_ready_reason = [this] { return lifecycle_.not_ready_reason(); },
      .ready_text = [this] { return lifecycle_.ready_text(); },
      .metrics = [this] { return metrics_.text(); },
      .stack = [this](int slot, auto done) { take_stack(slot, std::move(done)); },
      .listen = [this](server::Exchange& exchange) { return listen(exchange); }};
}

void Supervisor::on_event(const Event& event) {
  events_.publish(event);
  if (const Generation* generation = lifecycle_.generation()) {
    hooks_.on_event(event, generation->settings->hooks);
  }
}

bool Supervisor::listen(server::Exchange& exchange) {
  if (events_.full()) return false;
  const Generation* generation = lifecycle_.generation();
  events_.add(exchange, {{"state", status_->state()},
                         {"generation", generation ? generation->number : 0},
                         {"workers", lifecycle_.target()}});
  return true;
}

void Supervisor::take_stack(int slot,
                            std::function<void(const Result<nlohmann::ordered_json>&)> done) {
  if (lifecycle_.target() == 0) return done(Error(std::string(kSentAway), ENOENT));
  if (slot >= lifecycle_.target()) {
    return done(Error(
        fmt::format("there is no slot {}; allowed are 0 to {}", slot, lifecycle_.target() - 1),
        ENOENT));
  }
  const Worker* worker = lifecycle_.running_in(slot);
  if (!worker) {
    const auto& slots = lifecycle_.slots();
    const bool waits = static_cast<std::size_t>(slot) < slots.size() &&
                       lifecycle_.state_of(slots[slot]) == SlotState::backoff;
    return done(
        Error(fmt::format("no worker runs in slot {}: {}", slot,
                          waits ? "it is in back-off, see mgr status" : "it is being started")));
  }
  const nlohmann::ordered_json about{
      {"slot", slot}, {"pid", worker->pid}, {"generation", worker->number}};
  world_.stacks().take(worker->id, worker->pid, [this, about, done](const auto& stack) {
    const int slot = about["slot"];
    if (!stack) {
      log_.warning("worker {}: its stack was asked for: {}", slot, stack.error().message());
      return done(Error(fmt::format("worker {}: {}", slot, stack.error().message())));
    }
    const auto lines = std::count(stack->text.begin(), stack->text.end(), '\n');
    log_.info("worker {} (pid {}): its stack was taken, {} lines{}{}", slot,
              about["pid"].template get<int>(), lines, stack->note.empty() ? "" : "; ",
              stack->note);
    nlohmann::ordered_json document = about;
    document["note"] = nullptr;
    if (!stack->note.empty()) document["note"] = stack->note;
    document["stack"] = stack->text;
    done(document);
  });
}

void Supervisor::notify(const NotifyOptions& options) {
  if (options.socket.empty()) return;
  notifier_.emplace(loop_, options, log_);
  lifecycle_.set_observer([this] { notifier_->tell(service_report(lifecycle_)); });
  listeners_.set_store({[this](const auto& name, int fd) { return notifier_->keep(name, fd); },
                        [this](const auto& name) { notifier_->forget(name); }});
}

void Supervisor::set_program(const Program& program) {
  upgrade_ = std::make_unique<Upgrade>(
      loop_, log_, program,
      Upgrade::Actions{
          .save = [this](StateWriter& writer) { save(writer); },
          .may_go_on = [this] { return lifecycle_.upgrade_may_go_on(); },
          .accept_control = [this](bool accept) { accept_control(accept); },
          .control_connections = [this] { return control_ ? control_->connections() : 0; },
          .failed = [this](const Outcome& outcome) { lifecycle_.upgrade_failed(outcome); }});
}

void Supervisor::upgrade(std::function<int()> asker, Done done) {
  if (!upgrade_) return done({.ok = false, .message = "refused: nothing is known to replace"});
  lifecycle_.upgrade(
      [this, asker] {
        enter_start_directory();
        upgrade_->begin(asker);
      },
      [this, done](const Outcome& outcome) {
        if (!outcome.conflict) upgrade_->cancel();
        done(outcome);
      });
}

void Supervisor::reload_on_change() {
  if (!loaded_.values.reload_on_change) return;
  auto_reload_.emplace(loop_, log_, [this](Done done) { reload(std::move(done)); });
  auto_reload_->watch(loaded_.values);
}

void Supervisor::reload(Done done, Lifecycle::WhileReloading policy) {
  lifecycle_.reload(
      [this] { return prepare_reload(); },
      [this, done](const Outcome& outcome) {
        if (outcome.conflict) return done(outcome);  // what is pending is another's
        bind_change_.finish(outcome.ok ? BindChange::End::kept : BindChange::End::dropped);
        if (outcome.ok && pending_) {
          const LogLevel level = pending_->values.log_level;
          if (level != loaded_.values.log_level) {
            log_level_.reset();
            log_.set_level(level);
          }
          loaded_ = std::move(*pending_);
        }
        pending_.reset();
        if (auto_reload_) {
          auto_reload_->watch(loaded_.values);
          auto_reload_->reload_ended();
        }
        done(outcome);
      },
      policy);
}

void Supervisor::set_log_level(LogLevel level, const Done& done) {
  log_level_ = level;
  log_.set_level(level);
  lifecycle_.set_log_level(level);
  done({.message = fmt::format("log level {}", to_string(level))});
}

// The settings in force; a scale is the origin of a number of workers that is not the settings',
// and `mgr log-level` that of its level.
nlohmann::json Supervisor::describe_settings() const {
  nlohmann::json settings = loaded_.describe();
  if (lifecycle_.scaled()) {
    settings["workers"] = {{"value", lifecycle_.target()}, {"origin", "scale"}};
  }
  if (log_level_) {
    settings["log_level"] = {{"value", to_string(*log_level_)}, {"origin", "log-level"}};
  }
  return settings;
}

// Again, as its name may lead elsewhere by now: a deploy that changes a symbolic link.
void Supervisor::enter_start_directory() const {
  if (start_directory_.empty() || ::chdir(start_directory_.c_str()) == 0) return;
  log_.warning("{}: {}; paths begin in the directory that it was", start_directory_,
               std::strerror(errno));
}

// Reads the settings again. What a reload can't apply keeps its old value and is named.
Result<Lifecycle::Prepared> Supervisor::prepare_reload() {
  // One that is refused here is over before the life cycle's next look around.
  if (notifier_) notifier_->tell(service_report(lifecycle_));
  if (!loader_) return Error("nothing to read the settings from");
  enter_start_directory();
  restore_control();
  auto fresh = loader_->load(SettingsLoader::Reading::again);
  if (!fresh) return std::move(fresh).error();
  if (fresh->values.app.empty()) {
    return Error((loader_->file().empty() ? "" : loader_->file() + ": ") +
                 settings::kNoApplication);
  }
  if (auto fit = check_on_this_machine(fresh->values); !fit) return std::move(fit).error();
  for (const auto& warning : fresh->warnings) log_.warning("{}", warning);
  Lifecycle::Prepared prepared;
  prepared.not_applied = settings::needing_restart(loaded_.values, fresh->values);
  const bool counts_again = fresh->values.workers == 0 && !lifecycle_.scaled();
  if (fresh->values.workers != loaded_.values.workers || counts_again) {
    prepared.workers = wanted_workers(fresh->values);
  }
  if (auto kept = keep_old(*fresh, prepared.not_applied); !kept) return std::move(kept).error();
  auto addresses = addresses_of(*fresh, listeners_.has_inherited());
  if (!addresses) return std::move(addresses).error();
  if (auto bound = bind_change_.prepare(*addresses); !bound) return std::move(bound).error();
  Settings values = fresh->values;
  if (log_level_ && values.log_level == loaded_.values.log_level) values.log_level = *log_level_;
  prepared.settings = std::make_shared<const Settings>(std::move(values));
  pending_ = std::move(*fresh);
  return prepared;
}

Result<void> Supervisor::keep_old(LoadedSettings& fresh,
                                  const std::vector<std::string>& names) const {
  if (names.empty()) return {};
  const nlohmann::json old_values = loaded_.values.to_json();
  nlohmann::json values = fresh.values.to_json();
  for (const auto& name : names) {
    values[name] = old_values.at(name);
    fresh.origins[name] = loaded_.origins.at(name);
  }
  auto merged = Settings::from_json(values);
  if (!merged) return std::move(merged).error();
  merged->config_file = fresh.values.config_file;
  fresh.values = std::move(*merged);
  return {};
}

int Supervisor::run(int workers, Until until) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  if (until == Until::told) {
    watch_signals();
  } else {
    watch_signals_of_check();
    lifecycle_.check_only();
    check_.emplace(loop_, [this] {
      if (lifecycle_.phase() == Phase::running) {
        check_passed_ = true;
        check_->stop();
        lifecycle_.stop(Lifecycle::Stop::graceful);
      }
    });
    check_->start_repeating(std::chrono::milliseconds(20));
  }
  lifecycle_.start(std::make_shared<const Settings>(loaded_.values), workers);
  const int status = turn();
  if (!check_ || status != 0 || check_passed_) return status;
  log_.error("{}: interrupted before the application had loaded and started", loaded_.values.app);
  return 1;
}

int Supervisor::run_on(std::function<void()> began) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  watch_signals();
  Timer first(loop_, std::move(began));
  first.start(std::chrono::milliseconds(0));
  return turn();
}

void Supervisor::go_on() {
  reap();
  lifecycle_.go_on();
  bind_change_.go_on();
}

int Supervisor::turn() {
  loop_.run();
  while (upgrade_ && upgrade_->ready()) {
    upgrade_->hand_over();
    if (left_) break;
    loop_.run();
  }
  auto_reload_.reset();
  signals_.clear();
  upgrade_.reset();
  control_.reset();
  control_socket_.reset();
  admin_.reset();
  return exit_status_;
}

void Supervisor::on_signal(int signal, std::function<void()> action) {
  signals_.emplace_back(loop_, signal, std::move(action));
}

// A check has nothing to reload, scale or reopen. Ignored by watchers, as SIG_IGN would be
// inherited by the application.
void Supervisor::watch_signals_of_check() {
  ::signal(SIGPIPE, SIG_IGN);
  on_signal(SIGCHLD, [this] { reap(); });
  for (const int signal : {SIGTERM, SIGINT, SIGQUIT}) {
    on_signal(signal, [this] { lifecycle_.stop(Lifecycle::Stop::quick); });
  }
  for (const int signal : {SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGWINCH}) {
    on_signal(signal, [] {});
  }
}

void Supervisor::watch_signals() {
  const auto on = [this](int signal, std::function<void()> action) {
    on_signal(signal, std::move(action));
  };
  const auto said = [this](const char* what) {
    return [this, what](const Outcome& outcome) {
      if (outcome.ok) return;
      log_.error("{}: {}", what, outcome.message);
    };
  };
  ::signal(SIGPIPE, SIG_IGN);
  on(SIGCHLD, [this] { reap(); });
  on(SIGHUP, [this, said] {
    log_.info("SIGHUP: reload");
    // Nobody is there to ask again, once the one that is under way has ended.
    reload(said("reload"), Lifecycle::WhileReloading::wait);
  });
  on(SIGTERM, [this] {
    log_.info("SIGTERM");
    lifecycle_.terminate();
  });
  for (const int signal : {SIGINT, SIGQUIT}) {
    on(signal, [this, signal] {
      log_.info("{}", signal == SIGINT ? "SIGINT" : "SIGQUIT");
      lifecycle_.stop(Lifecycle::Stop::quick);
    });
  }
  on(SIGTTIN, [this, said] {
    log_.info("SIGTTIN: one worker more");
    lifecycle_.scale(Lifecycle::ScaleBy{1}, said("scale"));
  });
  on(SIGTTOU, [this, said] {
    log_.info("SIGTTOU: one worker less");
    lifecycle_.scale(Lifecycle::ScaleBy{-1}, said("scale"));
  });
  on(SIGUSR1, [this, said] {
    log_.info("SIGUSR1: reopen log files");
    log_control_.reopen(said("reopen"));
  });
  on(SIGUSR2, [this, said] {
    log_.info("SIGUSR2: upgrade");
    upgrade([] { return -1; }, said("upgrade"));
  });
  on(SIGWINCH, [this, said] {
    // Resizing a window sends it.
    if (UniqueFd(::open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC))) return;
    log_.info("SIGWINCH: all workers leave; a reload or a scale brings some back");
    lifecycle_.dismiss(said("SIGWINCH"));
  });
}

void Supervisor::reap() {
  int status = 0;
  for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0;) {
    if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
      lifecycle_.on_stopped(pid, WIFSTOPPED(status));
    } else {
      on_exit(pid, status);
    }
  }
}

void Supervisor::on_exit(pid_t pid, int status) {
  if (upgrade_ && upgrade_->on_exit(pid, status)) return;
  if (lifecycle_.on_exit(pid, status) || hooks_.on_exit(pid, status)) return;
  // An orphan of the application, or a worker whose pid the mold has not told yet.
  if (unknown_exits_.size() >= kMostUnknownExits) unknown_exits_.clear();
  unknown_exits_[pid] = status;
}

}  // namespace mgr::manager
