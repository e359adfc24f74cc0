#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "common/base/log.h"
#include "common/settings/cpus.h"
#include "common/settings/settings.h"
#include "manager/supervisor/backoff.h"
#include "manager/supervisor/events.h"
#include "manager/supervisor/hangs.h"
#include "manager/supervisor/recycling.h"
#include "manager/supervisor/restarts.h"
#include "manager/supervisor/times.h"
#include "manager/supervisor/worker_state.h"
#include "manager/supervisor/world.h"

namespace mgr::manager {

// What is said where no worker is wanted (Lifecycle::dismiss()).
inline constexpr std::string_view kSentAway =
    "no workers: they were sent away; mgr reload or mgr scale N brings some back";

using SettingsPtr = std::shared_ptr<const Settings>;

// Why something could not be loaded or started.
struct Failure {
  std::string stage;   // "configuration", "interpreter", "import", "attribute", "application",
                       // "lifespan", "boot", "ready"
  std::string error;   // one line
  std::string detail;  // traceback; may be empty
  int exit_status = 1;
};

// At the end of a sentence; nothing for an empty text.
inline std::string in_parentheses(const std::string& text) {
  return text.empty() ? "" : " (" + text + ")";
}

// The end of a change that somebody asked for.
struct Outcome {
  bool ok = true;
  bool conflict = false;     // refused because the same change is under way
  std::string message = {};  // one line, what happened
  std::optional<Failure> failure = {};
  std::vector<std::string> not_applied = {};  // settings that a reload can't apply
};
using Done = std::function<void(const Outcome&)>;

// One load of the application and its settings. `key` is unique; `number` is what people see.
struct Generation {
  int key = 0;
  int number = 0;
  SettingsPtr settings;
  MoldId mold = 0;   // the one that forks its workers; 0: none now
  bool load = true;  // the mold imports the application (preload)
  std::string interface;
  int fit = kMostWorkers;  // workers that the memory limit leaves room for, with `workers: auto`
  Millis retry_mold_at{0};
  Backoff mold_backoff;
};

struct Mold {
  enum class State { loading, ready, leaving };
  MoldId id = 0;
  int generation = 0;  // key
  pid_t pid = -1;
  State state = State::loading;
  std::string interpreter;  // that it has become; empty: none, or not yet
  std::optional<Millis> deadline;
  std::optional<Failure> failure;
  std::int64_t oom_kills_before = -1;
};

struct Worker {
  WorkerId id = 0;
  int slot = 0;
  int generation = 0;  // key
  int number = 0;      // the generation's number
  MoldId mold = 0;
  std::uint64_t epoch = 0;
  int record = -1;
  pid_t pid = -1;
  WorkerState state = WorkerState::forking;
  Millis started{0};
  Millis ready_at{-1};  // -1: not yet
  std::optional<Millis> deadline;
  std::set<SocketId> sockets;      // those it was given and that it still accepts on
  bool stopped_accepting = false;  // said so after Hold or Drain
  std::optional<Failure> failure;
  std::int64_t oom_kills_before = -1;
  std::optional<RestartReason> replaced_by = {};  // reload or restart, once a successor serves
  std::optional<RestartReason> killed_for = {};   // by us, because its time was over
  RecycleLimits limits = {};
  std::optional<RecycleDue> recycle = {};  // a limit is reached: to be replaced
  LoopWatch loop = {};
  Hang hang = {};
  bool stopped = false;  // by a signal (SIGSTOP)
  bool stuck = false;    // can't come to its connections: others take them
};

// A place for a worker. `wanted_epoch` and `wanted_generation` say which load should serve it; a
// worker of another epoch is replaced: successor first, then retire.
struct Slot {
  int index = 0;
  WorkerId current = 0;    // serves, or is to serve; 0: none
  WorkerId successor = 0;  // starting, to replace `current`
  WorkerId held = 0;       // replaced, kept for a rollback (no preload)
  std::uint64_t wanted_epoch = 0;
  int wanted_generation = 0;
  Backoff backoff = {};
  Millis retry_at{0};
  int restarts = 0;
  std::string last_exit = {};  // empty: none yet
};

// What an active slot shows to people.
enum class SlotState { starting, ready, hung, backoff };
inline constexpr std::size_t kSlotStates = 4;
std::string_view to_string(SlotState state);

std::string_view to_string(Mold::State state);

// It was told to leave, or stands back for its successor.
bool is_leaving(const Worker& worker);
// It serves nothing: half of `timeout` is over, or it was stopped by a signal.
bool hangs(const Worker& worker);

enum class Phase { starting, running, draining, stopping };

// Whether the service wants clients: `drained` (mgr drain) serves them, but fails readiness and
// ends each connection behind its response.
enum class Traffic { open, drained };

// The supervisor's decisions: which molds and workers exist, which worker gets which sockets.
//
// It holds the book of molds, workers and slots, compares what is wanted (a target count; for each
// slot a load of the application) with what is, and closes the gap: a start, a crash, a reload, a
// scale, a restart are all the same gap, and nothing but close_gaps() starts workers. Everything
// that happens arrives by one of the on_…() calls or a change; each ends in step(). All effects go
// through World, so that a whole life is tested with a fake one in microseconds.
//
// Changes (reload, restart, scale) are done one after the other; a stop interrupts anything.
class Lifecycle {
 public:
  Lifecycle(World& world, Log& log) : world_(world), log_(log) {}

  // ---- events
  void start(SettingsPtr settings, int workers);
  // All of it is `mgr check` (ipc::MoldOrder). Before start().
  void check_only() { check_only_ = true; }
  void on_mold_message(MoldId mold, const ipc::MoldMessage& message, std::string traceback);
  void on_worker_message(WorkerId worker, const ipc::WorkerMessage& message, std::string traceback);
  // A worker's channel was closed by the worker.
  void on_worker_channel_closed(WorkerId worker);
  // `status` as waitpid() gives it. False: the pid is not (yet) in the book.
  bool on_exit(pid_t pid, int status);
  void on_time();
  // At the pace of World::look_every().
  void on_look();
  // World::sockets() has others than before.
  void on_sockets_changed() { step(); }
  // A process was stopped by a signal, or goes on. False: it is no worker.
  bool on_stopped(pid_t pid, bool stopped);

  // ---- changes; `done` is called once, perhaps at once
  // `prepare` makes the new settings when the reload's turn has come, so that it reads the file
  // then; its not_applied go to the outcome.
  struct Prepared {
    SettingsPtr settings;
    std::vector<std::string> not_applied;
    // A new target: `workers` has changed, or is `auto` and no scale holds (then it is cut to what
    // fits beside the new mold). Ends a scale.
    std::optional<int> workers;
  };
  // While another reload is under way: it is refused (a conflict), or waits for its turn. One that
  // waits already is enough.
  enum class WhileReloading { refuse, wait };
  void reload(std::function<Result<Prepared>()> prepare, Done done,
              WhileReloading policy = WhileReloading::refuse);
  // With `reload_on_change`: the first start has failed, and is tried again by a reload. Else the
  // reload is refused.
  bool waits_for_change() const { return !start_failure_.empty(); }
  void restart(std::vector<int> slots, Done done);  // empty: all
  struct ScaleTo {
    int workers;
  };
  struct ScaleBy {
    int change;
  };
  void scale(std::variant<ScaleTo, ScaleBy> by, Done done);
  // Every worker leaves gracefully, and the supervisor stays with its sockets, where clients wait
  // in the queue. A reload brings the workers back, with its code; a scale as many as it says.
  void dismiss(Done done);
  // Of all molds and workers, and those to come of their generations.
  void set_log_level(LogLevel level);
  // At once, and also during another change.
  void set_traffic(Traffic traffic, const Done& done);
  // The turn of another program to go on in this process (upgrade.h). `begin` is called once
  // nothing else changes, and again if changes came in between; it leads to upgrade_failed(), or to
  // the end of this program.
  void upgrade(std::function<void()> begin, Done done);
  void upgrade_failed(const Outcome& outcome);
  // Is it still its turn, with nothing waiting? What waits goes first, and then begin() is called
  // again.
  bool upgrade_may_go_on();
  enum class Stop { graceful, quick };
  // A graceful one changes nothing about a stop that is under way.
  void stop(Stop kind);
  // SIGTERM: a graceful stop; the second time a quick one.
  void terminate();

  // Everything that it knows but the change under way, which is an upgrade (saved_state.h).
  nlohmann::json save() const;
  // Instead of start(). Does nothing to the outside: that begins with go_on().
  Result<void> restore(const nlohmann::json& saved);
  void go_on() { step(); }

  // Called after each step: what it looks like may have changed. The observer changes nothing.
  void set_observer(std::function<void()> observer) { observer_ = std::move(observer); }

  // Hears what happens, as it happens; it changes nothing.
  void set_on_event(OnEvent on_event) { on_event_ = std::move(on_event); }

  // ---- what it looks like, for status
  Phase phase() const { return phase_; }
  Traffic traffic() const { return traffic_; }
  bool reloading() const;
  bool degraded() const { return !degraded_reason().empty(); }
  // What it is degraded by; empty where it is not.
  std::string degraded_reason() const;
  // Why readiness fails; empty when ready.
  std::string not_ready_reason() const;
  // What /readyz says with its 200: "ok", and what it is degraded by.
  std::string ready_text() const;
  int target() const { return target_; }
  // The target is what somebody scaled to; holds until a reload brings a new number of its own.
  bool scaled() const { return scaled_; }
  int count_serving() const;
  // Why the first start failed, for people; empty where it did not.
  const std::string& last_words() const { return last_words_; }
  const Generation* generation() const;
  int reloads() const { return reloads_; }
  struct LastReload {
    bool ok = true;
    std::optional<Failure> failure;
    Millis duration{0};
  };
  const std::optional<LastReload>& last_reload() const { return last_reload_; }
  // Reloads that came to nothing: rolled back, or never begun (and interrupted by a stop).
  int reloads_rolled_back() const { return reloads_rolled_back_; }
  int reloads_refused() const { return reloads_refused_; }
  // Workers replaced or started again since the start, by RestartReason.
  const RestartCounts& restarts() const { return restarts_; }
  const std::vector<Slot>& slots() const { return slots_; }
  const std::map<WorkerId, Worker>& workers() const { return workers_; }
  const std::map<MoldId, Mold>& molds() const { return molds_; }
  const Worker* worker(WorkerId id) const;
  // The process that has this slot, or is to have it; null: none now.
  const Worker* running_in(int slot) const;
  // A slot that is to have a worker: none while the supervisor stops, once its worker leaves.
  bool active(const Slot& slot) const;
  SlotState state_of(const Slot& slot) const;
  // Called when the stop's outcome is known to be on its way; the loop ends right after.
  void when_stopped(std::function<void()> callback) { on_stopped_.push_back(std::move(callback)); }

 private:
  struct Reload {
    enum class Step { loading, probation, replacing, settling, rolling_back };
    Step step = Step::loading;
    std::function<Result<Prepared>()> prepare;
    Done done;
    bool begun = false;
    Millis began{0};
    Prepared prepared;
    int old_generation = 0;
    int new_generation = 0;
    std::uint64_t epoch = 0;
    WorkerId first = 0;
    std::size_t next_slot = 0;
    std::vector<int> batch;
    Millis settle_until{0};
    std::optional<Failure> failure;
  };
  struct Restart {
    std::vector<int> slots;
    Done done;
    bool begun = false;
    std::size_t next_slot = 0;
    std::vector<int> batch;
    std::uint64_t epoch = 0;
    std::optional<Failure> failure;
  };
  struct Dismiss {};
  struct Scale {
    std::variant<ScaleTo, ScaleBy, Dismiss> by;
    Done done;
    bool of_settings = false;  // a reload brought it, nobody asked
    bool begun = false;
    int from = 0;
    int to = 0;
    std::set<WorkerId> leaving;
    std::optional<Failure> failure;
  };
  struct Upgrade {
    std::function<void()> prepare;
    Done done;
    bool begun = false;
    std::optional<Outcome> failed;
  };
  using Change = std::variant<Reload, Restart, Scale, Upgrade>;

  void step();
  void tell(EventKind kind, nlohmann::ordered_json fields = nlohmann::ordered_json::object());
  void tell(EventKind kind, const Worker& worker, nlohmann::ordered_json more);
  void close_gaps();
  void close_gap(Slot& slot);
  void promote(Slot& slot);
  void assign_sockets();
  void arm();

  // workers.cc
  void apply(Worker& worker, WorkerEvent event);
  WorkerId start_worker(int slot, int generation, std::uint64_t epoch);
  void not_started(Worker worker, const Generation& generation, const std::string& why);
  void tell_unstarted();
  void retire(WorkerId id);
  void forget(WorkerId id);
  void kill_worker(Worker& worker);
  void worker_gone(const Worker& worker, const Ending& ending);
  void count_restart(const Worker& worker, const Ending& ending, bool told);
  Ending ending_of_child(int status, std::int64_t oom_kills_before);
  Millis jittered(Millis pause);
  void first_ready();

  // molds.cc
  void ensure_mold(Generation& generation);
  void mold_gone(MoldId id, const std::string& how, std::string last_words);
  void mold_failed(Mold& mold, Failure failure);
  void release_mold(MoldId id);

  // recycling.cc
  void look_at_usage();
  void begin_recycling();
  void recycle(Worker& worker, RecycleDue due);
  Millis next_look_at_usage() const;

  // hangs.cc
  Millis look_period() const;
  bool proving() const;
  bool is_to_turn(const Worker& worker) const;
  bool look_at_proof(Worker& worker);
  Millis count_hang(const Worker& worker);
  bool turns_again(Worker& worker);
  bool escalate(Worker& worker);
  void warn(Worker& worker, Millis timeout);
  void judge(Worker& worker, Millis timeout);
  bool end_hung(Worker& worker);
  void abort_worker(Worker& worker);
  void log_stack(LogLevel level, const std::string& what, const Result<std::string>& stack);
  bool look_at_queues();
  bool has_queue(const Worker& worker);
  void wake_for_shared_queues();

  // traffic.cc
  bool closes_connections() const;

  // stopping.cc
  void fail_start(const Failure& failure);
  void wait_for_change(const Failure& failure);
  void start_again(const std::function<Result<Prepared>()>& prepare, const Done& done);
  void begin_stopping(Stop kind);
  void finish_if_empty();

  // questions.cc
  bool serving(const Slot& slot) const;
  bool settled_on(const Slot& slot, std::uint64_t epoch) const;
  bool turned_since(const Worker& worker, Millis moment) const;
  Worker* find(WorkerId id);
  Generation* find_generation(int key);
  int slots_backing_off() const;
  std::string last_exits() const;
  std::size_t batch_size() const;

  // changes.cc
  void advance_changes();
  bool advance(Reload& reload);
  bool advance(Restart& restart);
  bool advance(Scale& scale);
  bool advance(Upgrade& upgrade);
  bool begin(Reload& reload);
  bool begin(Restart& restart);
  bool begin(Scale& scale);
  bool begin(Upgrade& upgrade);
  bool all_turned_since(Millis moment) const;
  void take_slots(Reload& reload);
  void next_batch(Reload& reload);
  void finish_reload(Reload& reload);
  void fail_reload(Reload& reload, Failure failure);
  bool finish_rollback(Reload& reload);
  void drop_generation(int key);
  void note_fit(Generation& generation, const Mold& mold);
  void note_failure(const Worker& worker, const Failure& failure);
  void note_failure(const Failure& of_a_mold);
  void refuse_all(const std::string& why);
  Reload* active_reload();
  const Reload* active_reload() const;

  World& world_;
  Log& log_;
  Phase phase_ = Phase::starting;
  Traffic traffic_ = Traffic::open;
  int target_ = 0;     // 0: dismissed
  int dismissed_ = 0;  // the target before a dismiss()
  bool scaled_ = false;
  bool check_only_ = false;
  std::optional<int> target_of_reload_;  // of the one that has just finished: next in the queue
  int generation_ = 0;                   // key of the final generation
  int next_key_ = 1;
  std::uint64_t next_id_ = 1;
  std::uint64_t next_epoch_ = 1;
  bool listening_ = false;
  int exit_status_ = 0;
  std::string start_failure_;            // why it waits for a change; empty: it does not
  std::string last_words_;               // why the first start failed: the log's last line
  std::optional<Millis> stop_deadline_;  // end of drain_delay
  bool terminated_ = false;              // by SIGTERM, once
  Millis next_look_{0};                  // at what workers with limits have used
  std::map<int, Generation> generations_;
  std::map<MoldId, Mold> molds_;
  std::map<WorkerId, Worker> workers_;
  std::vector<Slot> slots_;
  std::deque<Change> changes_;
  int reloads_ = 0;
  int reloads_rolled_back_ = 0;
  int reloads_refused_ = 0;
  RestartCounts restarts_{};
  std::int64_t oom_kills_told_ = -1;  // those up to this one have been told as somebody's end
  std::optional<LastReload> last_reload_;
  std::vector<std::function<void()>> on_stopped_;
  std::function<void()> observer_;
  OnEvent on_event_;
  std::vector<int> active_slots_;
  // What could not even be asked for in this round of a step: a worker, or a generation's mold.
  struct Unstarted {
    std::optional<Worker> worker;
    int generation = 0;  // its key
    Failure failure;
  };
  std::vector<Unstarted> unstarted_;
  bool stepping_ = false;
  bool step_again_ = false;
};

}  // namespace mgr::manager
