// mgr-worker: what the supervisor executes for a mold. It gives the application its directory and
// environment; for a Python application it finds the interpreter and becomes it, for a C++ one it
// starts itself again, so that the environment applies to the loading of libraries too.
//
//   mgr-worker                  with the descriptors of common/ipc/inherited.h
//   mgr-worker --native         the same, in the application's environment: a mold of C++
//   mgr-worker --refuse REASON  the interpreter that it became is not fit: reports that and ends

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <string_view>

#include "common/ipc/channel.h"
#include "common/ipc/inherited.h"
#include "common/ipc/messages.h"
#include "worker/launch/launcher.h"
#include "worker/native/mold.h"

namespace {

mgr::Result<mgr::Settings> read_settings() {
  auto text = mgr::ipc::read_all(mgr::ipc::kSettingsFd);
  if (!text) return std::move(text).error().with("order (descriptor 4)");
  auto order = mgr::ipc::decode_mold_order(*text);
  if (!order) return std::move(order).error();
  return mgr::Settings::from_json(order->settings);
}

mgr::Error launch() {
  auto settings = read_settings();
  if (!settings) return std::move(settings).error();
  auto entered = mgr::worker::enter_application_environment(*settings);
  if (!entered) return std::move(entered).error();
  auto native = mgr::worker::is_native(*settings);
  if (!native) return std::move(native).error();
  if (*native) return mgr::worker::exec_native_host();
  auto directory = mgr::worker::python_directory();
  if (!directory) return std::move(directory).error();
  return mgr::worker::exec_interpreter(*settings, *directory);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "--refuse") mgr::worker::refuse(argv[2]);
  // A mold that hangs in the application's code would not see the end of its channel.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (argc == 2 && std::string_view(argv[1]) == "--native") return mgr::native::run_mold();
  mgr::worker::refuse(launch().message());
}
