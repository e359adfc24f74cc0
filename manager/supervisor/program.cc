#include "manager/supervisor/program.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <string_view>

namespace mgr::manager {
namespace {

constexpr char kSelf[] = "/proc/self/exe";
constexpr std::string_view kFlag = "--resume=";

std::string absolute(const std::string& path) {
  char directory[PATH_MAX];
  if (path.front() == '/' || !::getcwd(directory, sizeof directory)) return path;
  return std::string(directory) + "/" + path;
}

bool is_this_program(const std::string& path) {
  struct stat there {};
  struct stat here {};
  return ::stat(path.c_str(), &there) == 0 && ::stat(kSelf, &here) == 0 &&
         there.st_dev == here.st_dev && there.st_ino == here.st_ino;
}

std::string on_path(const std::string& name) {
  const char* value = std::getenv("PATH");
  std::string_view rest = value ? value : "";
  while (!rest.empty()) {
    const auto colon = rest.find(':');
    const std::string directory(rest.substr(0, colon));
    rest.remove_prefix(colon == std::string_view::npos ? rest.size() : colon + 1);
    const std::string candidate = absolute((directory.empty() ? "." : directory) + "/" + name);
    if (is_this_program(candidate)) return candidate;
  }
  return {};
}

// As it was named where that is true, else what the kernel calls it.
std::string find_path(const std::string& name) {
  const std::string named = name.find('/') == std::string::npos ? on_path(name) : absolute(name);
  if (!named.empty() && is_this_program(named)) return named;
  char self[PATH_MAX];
  const ssize_t n = ::readlink(kSelf, self, sizeof self);
  std::string path = n > 0 ? std::string(self, static_cast<std::size_t>(n)) : named;
  constexpr std::string_view kDeleted = " (deleted)";
  if (path.ends_with(kDeleted)) path.resize(path.size() - kDeleted.size());
  return path;
}

std::optional<std::vector<int>> numbers(std::string_view text) {
  std::vector<int> numbers;
  while (true) {
    const auto colon = text.find(':');
    const auto part = text.substr(0, colon);
    int number = -1;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    if (error != std::errc{} || end != part.data() + part.size() || number < 0) return {};
    numbers.push_back(number);
    if (colon == std::string_view::npos) return numbers;
    text.remove_prefix(colon + 1);
  }
}

}  // namespace

std::string Resume::argument() const {
  switch (role) {
    case Role::probe:
      return fmt::format("{}probe:{}", kFlag, state);
    case Role::successor:
      return fmt::format("{}successor:{}:{}:{}", kFlag, state, before, words);
    case Role::returned:
      return fmt::format("{}returned:{}:{}", kFlag, state, words);
  }
  return {};
}

std::optional<Resume> Resume::parse(const std::string& argument) {
  std::string_view rest = argument;
  if (!rest.starts_with(kFlag)) return {};
  rest.remove_prefix(kFlag.size());
  const auto colon = rest.find(':');
  if (colon == std::string_view::npos) return {};
  const auto role = rest.substr(0, colon);
  const auto given = numbers(rest.substr(colon + 1));
  if (!given) return {};
  if (role == "probe" && given->size() == 1) return Resume{Role::probe, given->at(0)};
  if (role == "successor" && given->size() == 3) {
    return Resume{Role::successor, given->at(0), given->at(1), given->at(2)};
  }
  if (role == "returned" && given->size() == 2) {
    return Resume{Role::returned, given->at(0), -1, given->at(1)};
  }
  return {};
}

Program::Program(int argc, char** argv) : arguments_(argv, argv + argc) {
  if (arguments_.empty()) arguments_.emplace_back("mgr");
  if (arguments_.size() > 1) resume_ = Resume::parse(arguments_.back());
  if (resume_) arguments_.pop_back();
  path_ = find_path(arguments_.front());
}

Result<UniqueFd> Program::open_running() {
  UniqueFd fd(::open(kSelf, O_RDONLY | O_CLOEXEC));
  if (!fd) return Error::from_errno(kSelf);
  return fd;
}

Result<UniqueFd> Program::open_new() const {
  UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Error::from_errno(path_);
  char begin[2] = {};
  if (::pread(fd.get(), begin, sizeof begin, 0) == 2 && begin[0] == '#' && begin[1] == '!') {
    return Error(path_ + ": is a script; mgr goes on only in a program of its own kind");
  }
  return fd;
}

Error Program::execute(int program, const Resume& resume) const {
  std::vector<std::string> arguments = arguments_;
  arguments.push_back(resume.argument());
  const auto pointers = pointers_to(arguments);
  ::execveat(program, "", pointers.data(), environ, AT_EMPTY_PATH);
  return Error::from_errno(path_);
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (auto& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace mgr::manager
