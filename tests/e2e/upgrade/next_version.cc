// Version 9.9.9, which does what $NEXT_MGR says at the wrong moment:
//
//   crash                   whatever it is executed for
//   slow                    takes two seconds to begin
//   abort, exit, throw, hang, segv   once it has taken the place of another, before its loop turns

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>

#include "manager/program_version.h"

namespace {

std::string behaviour() {
  const char* value = std::getenv("NEXT_MGR");
  return value ? value : "";
}

std::string arguments() {
  std::ifstream file("/proc/self/cmdline");
  return std::string((std::istreambuf_iterator<char>(file)), {});
}

// Looked at before main(), which makes the arguments a title.
const bool successor = [] {
  const std::string given = arguments();
  if (given.find("--resume=") == std::string::npos) return false;
  if (behaviour() == "crash") std::abort();
  if (behaviour() == "slow") ::usleep(2'000'000);
  return given.find("--resume=successor:") != std::string::npos;
}();

}  // namespace

namespace mgr {

const char* program_version() {
  if (successor) {
    const std::string what = behaviour();
    if (what == "abort") std::abort();
    if (what == "exit") std::exit(17);
    if (what == "throw") throw std::runtime_error("at the wrong moment");
    if (what == "segv") ::raise(SIGSEGV);
    while (what == "hang") ::usleep(100'000);
  }
  return "9.9.9";
}

}  // namespace mgr
