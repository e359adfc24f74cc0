#include "worker/native/mold.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <optional>

#include "common/settings/hooks.h"
#include "worker/launch/launcher.h"
#include "worker/life/mold.h"
#include "worker/life/signals.h"
#include "worker/native/left_open.h"
#include "worker/native/library.h"
#include "worker/native/serve.h"

namespace mgr::native {
namespace {

// The application has nothing that must be told of a fork.
constexpr worker::ForkHooks kNoHooks{[] {}, [] {}, [] {}};

// nullopt: it could not be loaded, which has been reported.
std::optional<Library> load_in_mold(worker::Mold& mold, const settings::LibraryName& name) {
  using std::chrono::steady_clock;
  const LeftOpen before;
  const worker::SignalDispositions dispositions;
  const auto began = steady_clock::now();
  auto loaded = load(name);
  dispositions.restore();
  if (const auto* failure = std::get_if<LoadFailure>(&loaded)) {
    mold.report(ipc::LoadFailed{failure->stage, failure->error, 4});
    return std::nullopt;
  }
  const auto took =
      std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - began);
  mold.report(ipc::Loaded{name.path, "", "native", took.count(), before.since()});
  return std::move(std::get<Library>(loaded));
}

int live(worker::Mold& mold, const settings::LibraryName& name) {
  std::optional<Library> library;
  if (mold.order().load) {
    library = load_in_mold(mold, name);
    if (!library) return 4;
  } else {
    mold.report(ipc::Loaded{name.path, "", "", 0, {}});
  }
  while (auto request = mold.receive()) {
    std::fflush(nullptr);  // else each worker would write it again
    auto worker = mold.fork(std::move(*request), kNoHooks);
    if (worker) return serve(mold, std::move(*worker), library ? &*library : nullptr, name);
  }
  ::_exit(0);
}

// A peer that has gone, or a file that may not grow, is an error of write(), not the end of the
// process. Caught, not ignored: programs that the application starts get the default again.
void survive_failed_writes() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGPIPE, &action, nullptr);
  ::sigaction(SIGXFSZ, &action, nullptr);
}

}  // namespace

int run_mold() {
  survive_failed_writes();
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  auto mold = worker::Mold::take();
  if (!mold) worker::refuse(mold.error().message());
  const auto name = settings::library_named_by(mold->settings().app);
  if (!name) worker::refuse("app: " + mold->settings().app + " names no library");
  for (const std::string_view event : settings::kPythonHooks) {
    if (mold->settings().hooks.contains(std::string(event))) {
      worker::refuse("hooks: " + std::string(event) +
                     " is for Python applications; a library has the events of commands only");
    }
  }
  return live(*mold, *name);
}

}  // namespace mgr::native
