#include <iostream>
#include <string>
#include <vector>

#include "manager/cli/commands.h"
#include "manager/supervisor/fallback.h"
#include "manager/supervisor/program.h"
#include "manager/supervisor/run.h"

int main(int argc, char** argv) {
  using namespace mgr;
  const manager::Program program(argc, argv);
  const auto& resume = program.resume();
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
