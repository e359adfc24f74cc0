#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/log.h"
#include "common/base/result.h"

namespace mgr::ipc {

// What travels on the channels: one JSON object a record, {"v": 1, "type": …, fields}.
// encode() and decode() are the only two places that know the spelling. Texts that could be long
// (errors, names) are cut to fit a record; a traceback travels as a descriptor beside the record.

inline constexpr int kProtocolVersion = 1;

// What a mold is to do; a JSON document in a sealed memfd at kSettingsFd:
// {"generation": …, "load": …, "name": …, "settings": {…}} (settings: Settings::to_json()).
struct MoldOrder {
  int generation = 0;
  // false: the workers load the application themselves (no preload).
  bool load = true;
  // true: `mgr check`: a worker that ends waits hardly for what the application has left running.
  bool check_only = false;
  nlohmann::json settings;
};
std::string encode(const MoldOrder& order);
Result<MoldOrder> decode_mold_order(std::string_view text);

// ---- mold or worker → supervisor

// The first record of all. Descriptor 0: a memfd into which the process writes its state should a
// fatal signal end it (Python's faulthandler), for the supervisor to read when it has ended.
struct LastWords {};

// No record goes to the log files any more that were open before the Reopen of this serial.
struct Reopened {
  std::uint64_t serial = 0;
};

// ---- mold → supervisor

// The mold becomes this program now: it is to blame for what happens before its own first record.
struct Executes {
  std::string interpreter;
};

// The mold is ready to fork workers. With load: the application is imported.
struct Loaded {
  std::string interpreter;  // path of the Python used, or of the library
  std::string python;       // its version; empty: no Python
  std::string interface;    // "asgi", "asgi2", "native"; empty when nothing was loaded
  std::int64_t duration_ms = 0;
  // What loading left open that forbids forking from here, each a phrase for people:
  // "thread 'reporter'", "listening socket 127.0.0.1:9999", "epoll descriptor 9".
  std::vector<std::string> left_open;
};
// The application could not be loaded (or found). Descriptor 0, if any: the traceback in a memfd.
struct LoadFailed {
  std::string stage;  // "interpreter", "import", "attribute", "application"
  std::string error;  // one line that names the interpreter
  int exit_status = 4;
};
// The worker asked for by Fork runs and is the supervisor's child.
struct Forked {
  std::uint64_t worker = 0;
  int pid = 0;
};
struct ForkFailed {
  std::uint64_t worker = 0;
  std::string error;
};

// ---- supervisor → mold or worker

// Log files were opened anew: their descriptors take the places of kLogFd and kAccessLogFd
// (inherited.h). One descriptor for each that is true, in this order. Answered by Reopened.
struct Reopen {
  std::uint64_t serial = 0;
  bool log = false;
  bool access_log = false;
};
struct SetLogLevel {
  LogLevel level = LogLevel::info;
};

// ---- supervisor → mold

// Fork a worker. Descriptor 0: its end of its channel; descriptor 1, if any: where it tells what it
// executes (stacks.h). The mold closes them after the fork.
struct Fork {
  std::uint64_t worker = 0;  // identity of this worker for the life of the supervisor
  int slot = 0;
  int record = 0;                  // index of its record in the scoreboard
  std::uint64_t max_requests = 0;  // of this worker, with its jitter; 0: without limit
};

// ---- worker → supervisor

// Application loaded, lifespan started, loop turning; accepts nothing until Listen.
struct Ready {
  std::string interface;
};
// The worker could not start and leaves. Descriptor 0, if any: the traceback in a memfd.
struct BootFailed {
  std::string stage;  // "import", "attribute", "application", "lifespan"
  std::string error;
  int exit_status = 4;  // 4 load, 3 lifespan
};
// Accepting has stopped on everything, after a Hold or a Drain.
struct StoppedAccepting {};
// Every thread that runs requests is busy with one that request_timeout has answered: the worker
// serves nothing more. Once at most.
struct Stuck {
  int threads = 0;
};
// It has answered max_requests, and serves on. Once at most.
struct Spent {};

// ---- supervisor → worker

// Start accepting on these; one descriptor for each, in this order.
struct Listen {
  struct Entry {
    std::uint64_t id = 0;  // identity of the listening socket for the life of the supervisor
    std::string address;   // as configured: "127.0.0.1:8000", "unix:/run/app.sock"
    bool shared = false;   // other workers watch the same socket (EPOLLEXCLUSIVE and rotation)
  };
  std::vector<Entry> entries;  // at most kMaxDescriptors
};
// Stop accepting on these; somebody else serves them. Nothing is closed but the worker's copy.
struct Release {
  std::vector<std::uint64_t> ids;
};
// Stop accepting on everything, close nothing else, go on serving; answered by StoppedAccepting.
// A later Listen makes the worker accept again.
struct Hold {};
// Leave gracefully: stop accepting (after taking what is queued, if nobody else will), answer
// StoppedAccepting, finish, run lifespan shutdown, exit 0.
struct Drain {
  // Nobody serves after this worker: it takes what is queued, and parts from idle connections soon.
  bool last = false;
  std::int64_t timeout_ms = 30000;  // when to cut what still runs
};
// Leave now: close connections, no lifespan, exit 0.
struct Quit {};
// Look at every shared listening socket: a wake-up may have been lost.
struct TryAccept {};
// `mgr drain`, drain_delay: responses carry `Connection: close`, accepting goes on.
struct CloseAfterResponse {};
// `mgr undrain`: they no longer do. Nothing for a worker that leaves.
struct KeepAfterResponse {};

using MoldMessage =
    std::variant<Loaded, LoadFailed, Forked, ForkFailed, LastWords, Executes, Reopened>;
using MoldCommand = std::variant<Fork, Reopen, SetLogLevel>;
using WorkerMessage =
    std::variant<Ready, BootFailed, StoppedAccepting, LastWords, Stuck, Spent, Reopened>;
using WorkerCommand = std::variant<Listen, Release, Hold, Drain, Quit, TryAccept,
                                   CloseAfterResponse, KeepAfterResponse, Reopen, SetLogLevel>;

std::string encode(const MoldMessage& message);
std::string encode(const MoldCommand& message);
std::string encode(const WorkerMessage& message);
std::string encode(const WorkerCommand& message);
// Errors: not JSON, another version, an unknown type, a missing or mistyped field.
Result<MoldMessage> decode_mold_message(std::string_view text);
Result<MoldCommand> decode_mold_command(std::string_view text);
Result<WorkerMessage> decode_worker_message(std::string_view text);
Result<WorkerCommand> decode_worker_command(std::string_view text);

}  // namespace mgr::ipc
