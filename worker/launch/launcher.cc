#include "worker/launch/launcher.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>

#include "common/base/current_directory.h"
#include "common/base/unique_fd.h"
#include "common/ipc/channel.h"
#include "common/ipc/inherited.h"
#include "common/ipc/messages.h"
#include "common/settings/application_name.h"
#include "common/settings/env_file.h"
#include "common/settings/interpreter.h"

namespace mgr::worker {
namespace {

std::string variable(const char* name) {
  const char* value = ::getenv(name);
  return value ? value : "";
}

Result<void> set(const std::string& key, const std::string& value) {
  if (::setenv(key.c_str(), value.c_str(), 1) != 0) return Error::from_errno("environment " + key);
  return {};
}

Result<void> apply_env_file(const std::string& path) {
  auto entries = read_env_file(path);
  if (!entries) return std::move(entries).error().with("env_file");
  for (const auto& [key, value] : *entries) {
    if (auto done = set(key, value); !done) return done;
  }
  return {};
}

std::string quoted_for_python(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\\' || c == '\'') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

std::string absolute(const std::string& path) {
  char directory[PATH_MAX];
  if (path[0] == '/' || !::getcwd(directory, sizeof directory)) return path;
  return std::string(directory) + "/" + path;
}

Result<std::string> this_program() {
  char self[PATH_MAX];
  const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self);
  if (n < 0) return Error::from_errno("/proc/self/exe");
  return std::string(self, static_cast<std::size_t>(n));
}

// A sanitized extension needs the sanitizer's library to be the first in the interpreter, whose own
// leaks are not ours.
void prepare_sanitizer() {
#ifdef MGR_SANITIZER_LIBRARY
  ::setenv("LD_PRELOAD", MGR_SANITIZER_LIBRARY, 1);
  ::setenv("ASAN_OPTIONS", "detect_leaks=0:use_sigaltstack=0", 1);
#endif
}

void tell_interpreter(const std::string& path) {
  ipc::Channel channel{UniqueFd(ipc::kChannelFd)};
  (void)channel.send(ipc::encode(ipc::MoldMessage(ipc::Executes{path})));
  (void)channel.release().release();  // it stays open for what is executed
}

}  // namespace

Result<void> enter_application_environment(const Settings& settings) {
  ::umask(static_cast<mode_t>(settings.umask));
  if (!settings.chdir.empty() && ::chdir(settings.chdir.c_str()) != 0) {
    return Error::from_errno("chdir: " + settings.chdir);
  }
  // Python would end without a word.
  if (current_directory().empty()) {
    return Error("chdir: '" + settings.chdir + "' leads to a directory that has been removed");
  }
  if (!settings.env_file.empty()) {
    if (auto done = apply_env_file(settings.env_file); !done) return done;
  }
  for (const auto& [key, value] : settings.env) {
    if (auto done = set(key, value); !done) return done;
  }
  return {};
}

Result<bool> is_native(const Settings& settings) {
  const bool library = settings::library_named_by(settings.app).has_value();
  switch (settings.interface) {
    case Interface::automatic:
      return library;
    case Interface::native:
      if (library) return true;
      return Error("interface: native, but app: " + settings.app +
                   " is no library; allowed: path/to/lib.so or path/to/lib.so:symbol");
    case Interface::asgi:
    case Interface::asgi2:
    case Interface::wsgi:
      if (!library) return false;
      return Error("app: " + settings.app +
                   " is a library, which only the interfaces auto and native can serve");
  }
  return library;
}

// By its path, which says more to tools than a link does; that is gone once an upgrade has replaced
// the file.
Error exec_native_host() {
  const char* const arguments[] = {"mgr-worker", "--native", nullptr};
  if (const auto program = this_program()) {
    ::execv(program->c_str(), const_cast<char* const*>(arguments));
  }
  ::execv("/proc/self/exe", const_cast<char* const*>(arguments));
  return Error::from_errno("cannot run mgr-worker again");
}

Error exec_interpreter(const Settings& settings, const std::string& python_directory) {
  const InterpreterSearch search{settings.python, variable("VIRTUAL_ENV"), variable("PATH"),
                                 is_executable_file};
  auto found = find_interpreter(search);
  if (!found) return std::move(found).error();
  const std::string boot = "import sys; sys.path.insert(0, " + quoted_for_python(python_directory) +
                           "); import mgr_bootstrap; mgr_bootstrap.main()";
  const std::string path = absolute(*found);
  prepare_sanitizer();
  const char* const arguments[] = {path.c_str(), "-c", boot.c_str(), nullptr};
  tell_interpreter(path);
  ::execv(path.c_str(), const_cast<char* const*>(arguments));
  return Error::from_errno("cannot run the interpreter " + path);
}

Result<std::string> python_directory() {
  auto program = this_program();
  if (!program) return program;
  const std::string directory = program->substr(0, program->rfind('/')) + "/python";
  if (::access((directory + "/mgr_bootstrap.py").c_str(), R_OK) == 0) return directory;
  return Error::from_errno(
      "this installation of mgr has no host for Python applications, only for path/to/lib.so: " +
      directory);
}

void refuse(std::string_view reason) {
  ipc::Channel channel{UniqueFd(ipc::kChannelFd)};
  const ipc::LoadFailed failure{"interpreter", std::string(reason), 4};
  (void)channel.send(ipc::encode(ipc::MoldMessage(failure)));
  ::_exit(failure.exit_status);
}

}  // namespace mgr::worker
