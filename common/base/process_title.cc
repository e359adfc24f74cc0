#include "common/base/process_title.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

namespace mgr {
namespace {

constexpr std::size_t kLongest = 512;

// What the kernel shows for as long as this process lives; null: there is none. It reads a command
// line from anonymous memory only, which the variables of a library are not.
char* shown() {
  static char* const memory = [] {
    void* const pages =
        ::mmap(nullptr, kLongest, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? nullptr : static_cast<char*>(pages);
  }();
  return memory;
}

// /proc/self/stat from field 3 on (proc(5)): `at(n)` is field n.
class Stat {
 public:
  static std::optional<Stat> read() {
    std::ifstream file("/proc/self/stat");
    std::string text;
    if (!std::getline(file, text)) return {};
    const std::size_t name_end = text.rfind(')');
    if (name_end == std::string::npos) return {};
    std::istringstream rest(text.substr(name_end + 1));
    Stat stat;
    for (std::string field; rest >> field;) stat.fields_.push_back(field);
    if (stat.fields_.size() < kLast - kFirst + 1) return {};
    return stat;
  }
  unsigned long long at(std::size_t number) const {
    return std::strtoull(fields_[number - kFirst].c_str(), nullptr, 10);
  }

 private:
  static constexpr std::size_t kFirst = 3;
  static constexpr std::size_t kLast = 51;
  std::vector<std::string> fields_;
};

bool show(const Stat& stat, std::string_view title) {
  char* const text = shown();
  if (!text) return false;
  title = title.substr(0, kLongest - 1);
  std::memset(text, 0, kLongest);
  std::memcpy(text, title.data(), title.size());
  prctl_mm_map map{};
  map.start_code = stat.at(26);
  map.end_code = stat.at(27);
  map.start_stack = stat.at(28);
  map.start_data = stat.at(45);
  map.end_data = stat.at(46);
  map.start_brk = stat.at(47);
  map.brk = reinterpret_cast<unsigned long long>(::sbrk(0));
  map.arg_start = reinterpret_cast<unsigned long long>(text);
  map.arg_end = map.arg_start + title.size() + 1;
  map.env_start = stat.at(50);
  map.env_end = stat.at(51);
  map.exe_fd = static_cast<__u32>(-1);
  return ::prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) == 0;
}

// A last byte that is not 0 tells the kernel that the text before it is a title, which ends where a
// string does.
void write_over_arguments(const Stat& stat, std::string_view title) {
  auto* const start = reinterpret_cast<char*>(stat.at(48));
  const auto room = static_cast<std::size_t>(stat.at(49) - stat.at(48));
  // Under an emulator (valgrind) the kernel's arguments are the emulator's own.
  if (!start || start != ::program_invocation_name || room < 2) return;
  std::memset(start, 0, room);
  const std::size_t length = std::min(title.size(), room - 2);
  std::memcpy(start, title.data(), length);
  start[room - 1] = ' ';
}

}  // namespace

void set_process_title(std::string_view title, const std::string& name) {
  ::prctl(PR_SET_NAME, name.c_str());
  const auto stat = Stat::read();
  if (!stat) return;
  if (!show(*stat, title)) write_over_arguments(*stat, title);
}

}  // namespace mgr
