#include "worker/native/serve.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "worker/life/signals.h"
#include "worker/life/worker.h"
#include "worker/native/dispatcher.h"
#include "worker/native/frames.h"
#include "worker/native/lifespan.h"

namespace mgr::native {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using worker::Leave;

// How long a worker that must leave now waits for what still runs.
constexpr milliseconds kQuick{300};
// How long static destructors may take.
constexpr milliseconds kEndOfProcess{2000};

class Life {
 public:
  Life(worker::Mold& mold, worker::Identity identity)
      : settings_(mold.settings()),
        log_(worker::log_for(settings_, "worker " + std::to_string(identity.slot))),
        dispatcher_(settings_.root_path, log_),
        lifespan_(dispatcher_, settings_.lifespan),
        record_(mold.scoreboard().record(identity.record)),
        worker_(std::move(identity), settings_, dispatcher_, dispatcher_, record_, log_) {
    worker_.stacks().answer_with(frames_of_one_thread());
    dispatcher_.attach(worker_);
  }

  int run(const Library* library, const settings::LibraryName& name) {
    if (!library && !(library = load(name))) return end(4);
    if (!dispatcher_.open(*library->application))
      return fail("application", "out of memory", {}, 4);
    return end(serve());
  }

 private:
  const Library* load(const settings::LibraryName& name);
  int serve();
  void leave(Leave how);
  void quit_lifespan();
  int fail(std::string stage, std::string error, const std::string& all, int status);
  int end(int status);
  milliseconds time_left() const { return std::max(worker_.time_to_leave(), kQuick); }
  // Turns the loop until `done`, at most so long.
  template <typename Condition>
  void turn_until(Condition done, milliseconds at_most);

  const Settings& settings_;
  Log log_;
  Dispatcher dispatcher_;
  Lifespan lifespan_;
  ipc::WorkerRecord& record_;
  worker::Worker worker_;
  std::optional<Library> own_;
};

const Library* Life::load(const settings::LibraryName& name) {
  const worker::SignalDispositions dispositions;
  auto loaded = native::load(name);
  dispositions.restore();
  worker_.stacks().answer_with(frames_of_one_thread());
  if (const auto* failure = std::get_if<LoadFailure>(&loaded)) {
    fail(failure->stage, failure->error, {}, 4);
    return nullptr;
  }
  own_ = std::move(std::get<Library>(loaded));
  return &*own_;
}

int Life::serve() {
  lifespan_.start_up();
  while (!lifespan_.started() && !dispatcher_.leave()) dispatcher_.turn(std::nullopt);
  if (!lifespan_.started()) {
    lifespan_.cancel();
    return 0;
  }
  if (!lifespan_.failure().error.empty()) {
    lifespan_.cancel();
    return fail("lifespan", lifespan_.failure().error, lifespan_.failure().message, 3);
  }
  worker_.booted("native");
  while (!dispatcher_.leave()) dispatcher_.turn(std::nullopt);
  leave(*dispatcher_.leave());
  return 0;
}

void Life::leave(Leave how) {
  dispatcher_.cancel_requests();
  if (how != Leave::now) {
    lifespan_.shut_down();
    turn_until([this] { return lifespan_.stopped(); }, time_left());
  }
  lifespan_.cancel();
}

template <typename Condition>
void Life::turn_until(Condition done, milliseconds at_most) {
  const auto until = steady_clock::now() + at_most;
  while (!done()) {
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    if (left.count() <= 0) return;
    dispatcher_.turn(left);
  }
}

int Life::fail(std::string stage, std::string error, const std::string& all, int status) {
  worker_.boot_failed(ipc::BootFailed{std::move(stage), std::move(error), status}, all);
  return status;
}

int Life::end(int status) {
  worker_.arm_last_resort(time_left() + kEndOfProcess);
  if (dispatcher_.close(time_left())) return status;
  log_.warning("ended without waiting for what still runs: offload() of the application");
  ::_exit(status);
}

}  // namespace

int serve(worker::Mold& mold, worker::Identity identity, const Library* library,
          const settings::LibraryName& name) {
  return Life(mold, std::move(identity)).run(library, name);
}

}  // namespace mgr::native
