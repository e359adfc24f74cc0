#include "manager/supervisor/core_file.h"

#include <fnmatch.h>

#include <filesystem>
#include <optional>
#include <string_view>

#include "common/base/cgroup.h"

namespace mgr::manager {
namespace {

namespace fs = std::filesystem;

// The file's name as a pattern of fnmatch(3).
std::string expanded(std::string_view pattern, pid_t pid, bool append_pid) {
  std::string result;
  bool has_pid = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '%' && i + 1 < pattern.size()) {
      const char what = pattern[++i];
      has_pid = has_pid || what == 'p';
      if (what == 'p') {
        result += std::to_string(pid);
      } else {
        result += what == '%' ? "%" : "*";
      }
    } else {
      if (std::string_view("*?[\\").find(c) != std::string_view::npos) result += '\\';
      result += c;
    }
  }
  if (append_pid && !has_pid) result += "." + std::to_string(pid);
  return result;
}

// The newest regular file in `directory` whose name fits.
std::string newest(const fs::path& directory, const std::string& name) {
  std::string found;
  std::optional<fs::file_time_type> latest;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (::fnmatch(name.c_str(), entry.path().filename().c_str(), 0) != 0) continue;
    if (!entry.is_regular_file(error)) continue;
    const auto time = entry.last_write_time(error);
    if (error || (latest && time <= *latest)) continue;
    latest = time;
    found = entry.path().string();
  }
  return found;
}

std::string program_of(std::string_view pipe, pid_t pid) {
  const std::string program(pipe.substr(0, pipe.find(' ')));
  if (program.find("systemd-coredump") != std::string::npos)
    return "see coredumpctl info " + std::to_string(pid);
  return "given to " + program;
}

}  // namespace

std::string where_core_went(pid_t pid, const std::string& directory, const std::string& root) {
  const std::string kernel = root + "/proc/sys/kernel/";
  const auto pattern = first_line(kernel + "core_pattern");
  if (!pattern || pattern->empty()) return "";
  if (pattern->front() == '|') return program_of(std::string_view(*pattern).substr(1), pid);
  const bool append_pid = number_file(kernel + "core_uses_pid").value_or(0) != 0;
  const fs::path path(*pattern);
  std::error_code error;
  return newest(fs::absolute(fs::path(directory) / path.parent_path(), error).lexically_normal(),
                expanded(path.filename().string(), pid, append_pid));
}

}  // namespace mgr::manager
