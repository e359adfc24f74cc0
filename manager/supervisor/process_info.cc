#include "manager/supervisor/process_info.h"

#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace mgr::manager {
namespace {

// Of /proc/PID/stat, behind the name in parentheses: field 22 of proc(5), starttime in ticks.
constexpr int kFieldsBeforeStart = 19;

std::optional<double> boot_time() {
  std::ifstream file("/proc/stat");
  std::string name;
  std::string rest;
  while (file >> name) {
    double seconds = 0;
    if (name == "btime" && file >> seconds) return seconds;
    std::getline(file, rest);
  }
  return {};
}

}  // namespace

std::optional<std::uint64_t> resident_bytes(pid_t pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t size = 0;
  std::uint64_t pages = 0;
  if (!(statm >> size >> pages)) return {};
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::optional<double> start_time(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(stat, text);
  const std::size_t name_end = text.rfind(')');
  const auto booted = boot_time();
  if (name_end == std::string::npos || !booted) return {};
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int i = 0; i < kFieldsBeforeStart; ++i) fields >> field;
  double ticks = 0;
  if (!(fields >> ticks)) return {};
  return *booted + ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace mgr::manager
