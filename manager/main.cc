#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "manager/cli/commands.h"
#include "manager/supervisor/fallback.h"
#include "manager/supervisor/program.h"
#include "manager/supervisor/run.h"

namespace {

// Whoever started us may have closed standard descriptors, whose numbers would then be those of
// sockets.
void have_standard_descriptors() {
  int fd = 0;
  while (fd >= 0 && fd <= 2) fd = ::open("/dev/null", O_RDWR);
  if (fd > 2) ::close(fd);
}

// A blocked signal would never come. (What takes the place of a running supervisor begins with all
// of them blocked, until it can obey them.)
void unblock_signals() {
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace mgr;
  have_standard_descriptors();
  ::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error of write()
  const manager::Program program(argc, argv);
  const auto& resume = program.resume();
  if (!resume) unblock_signals();
  if (resume && resume->role == manager::Resume::Role::successor) manager::Fallback::arm(program);
  cli::Programs programs{[&](SettingsLoader loader, LoadedSettings settings) {
                           return manager::run_supervisor(std::move(loader), std::move(settings),
                                                          program);
                         },
                         manager::check_application};
  if (resume) {
    programs.resume = [&](SettingsLoader loader) {
      return manager::resume_supervisor(std::move(loader), program);
    };
  }
  return cli::run_command_line(
      std::vector<std::string>(program.arguments().begin() + 1, program.arguments().end()),
      programs, cli::Places::of_process(), {std::cout, std::cerr});
}
