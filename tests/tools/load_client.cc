#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "tests/tools/load/load.h"
#include "tests/tools/load/options.h"

namespace {

volatile int stop = 0;

void on_signal(int) {
  stop = 1;
}

void raise_descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) {
  const mgr::load::Options options = mgr::load::parse_options(argc, argv);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGINT, on_signal);
  raise_descriptor_limit();
  mgr::load::Load load(options);
  load.run(&stop);
  const std::string json = load.report().json(mgr::load::Clock::now());
  if (options.report.empty()) {
    std::cout << json << std::endl;
  } else {
    std::ofstream(options.report) << json << std::endl;
  }
  return load.report().lost() == 0 ? 0 : 1;
}
