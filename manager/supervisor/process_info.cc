#include "manager/supervisor/process_info.h"

#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace mgr::manager {
namespace {

// Of /proc/PID/stat, behind the name in parentheses: field 22 of proc(5), starttime in ticks.
constexpr int kFieldsBeforeStart = 19;
// Between the state and utime.
constexpr int kFieldsBeforeTicks = 10;

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

// A stat file from the third field on: the name before may hold spaces and parentheses.
std::string stat_behind_name(const std::string& directory) {
  std::ifstream stat(directory + "/stat");
  std::string text;
  std::getline(stat, text);
  const std::size_t name_end = text.rfind(')');
  return name_end == std::string::npos ? std::string() : text.substr(name_end + 1);
}

std::string of_process(pid_t pid) {
  return "/proc/" + std::to_string(pid);
}

std::string of_thread(pid_t pid, pid_t thread) {
  return of_process(pid) + "/task/" + std::to_string(thread);
}

std::optional<ThreadUse> thread_use(pid_t pid, pid_t thread) {
  using std::chrono::duration_cast, std::chrono::nanoseconds;
  const std::string directory = of_thread(pid, thread);
  ThreadUse use;
  use.thread = thread;
  std::istringstream fields(stat_behind_name(directory));
  if (!(fields >> use.state)) return {};
  std::ifstream schedule(directory + "/schedstat");
  std::int64_t ran = 0;
  std::int64_t waited = 0;
  if (schedule >> ran >> waited && ran > 0) {
    use.ran = duration_cast<Millis>(nanoseconds(ran));
    use.waited = duration_cast<Millis>(nanoseconds(waited));
    return use;
  }
  // A kernel that does not account for it: ticks of user and system time, fields 14 and 15.
  std::string field;
  for (int i = 0; i < kFieldsBeforeTicks; ++i) fields >> field;
  std::int64_t user = 0;
  std::int64_t system = 0;
  if (fields >> user >> system) use.ran = Millis((user + system) * 1000 / ::sysconf(_SC_CLK_TCK));
  return use;
}

}  // namespace

std::optional<std::uint64_t> resident_bytes(pid_t pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t size = 0;
  std::uint64_t pages = 0;
  if (!(statm >> size >> pages)) return {};
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// /proc/PID/statm can be read of any user's process; smaps_rollup would take CAP_SYS_PTRACE, and
// does not count what forked processes share.
std::optional<std::uint64_t> unique_bytes(pid_t pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  std::uint64_t of_files = 0;
  if (!(statm >> size >> resident >> of_files) || of_files > resident) return {};
  return (resident - of_files) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::optional<double> start_time(pid_t pid) {
  const auto booted = boot_time();
  std::istringstream fields(stat_behind_name(of_process(pid)));
  if (!booted) return {};
  std::string field;
  for (int i = 0; i < kFieldsBeforeStart; ++i) fields >> field;
  double ticks = 0;
  if (!(fields >> ticks)) return {};
  return *booted + ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

std::optional<char> process_state(pid_t pid) {
  std::istringstream fields(stat_behind_name(of_process(pid)));
  char state = 0;
  if (!(fields >> state)) return {};
  return state;
}

std::optional<SignalMasks> signal_masks(pid_t pid, pid_t thread) {
  std::ifstream status(of_thread(pid, thread) + "/status");
  SignalMasks masks;
  int found = 0;
  for (std::string name; status >> name;) {
    std::uint64_t* mask = name == "SigBlk:"   ? &masks.blocked
                          : name == "SigCgt:" ? &masks.caught
                                              : nullptr;
    if (mask && status >> std::hex >> *mask) ++found;
    std::string rest;
    std::getline(status, rest);
  }
  if (found != 2) return {};
  return masks;
}

std::vector<pid_t> threads_of(pid_t pid) {
  std::vector<pid_t> threads;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", error)) {
    const std::string name = entry.path().filename();
    pid_t thread = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), thread).ec == std::errc{})
      threads.push_back(thread);
  }
  return threads;
}

std::vector<ThreadUse> thread_uses(pid_t pid) {
  std::vector<ThreadUse> uses;
  if (const auto main = thread_use(pid, pid)) uses.push_back(*main);
  for (const pid_t thread : threads_of(pid)) {
    if (thread == pid) continue;
    if (const auto use = thread_use(pid, thread)) uses.push_back(*use);
  }
  return uses;
}

std::string thread_name(pid_t pid, pid_t thread) {
  std::ifstream comm(of_thread(pid, thread) + "/comm");
  std::string name;
  std::getline(comm, name);
  return name;
}

}  // namespace mgr::manager
