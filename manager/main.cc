#include <iostream>
#include <string>
#include <vector>

#include "manager/cli/commands.h"
#include "manager/supervisor/run.h"

int main(int argc, char** argv) {
  const mgr::cli::Programs programs{mgr::manager::run_supervisor, mgr::manager::check_application};
  return mgr::cli::run_command_line(std::vector<std::string>(argv + 1, argv + argc), programs,
                                    mgr::cli::Places::of_process(), {std::cout, std::cerr});
}
