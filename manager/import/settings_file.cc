#include "manager/import/settings_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string_view>

#include "common/base/unique_fd.h"

extern char** environ;

namespace mgr::foreign {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLongest{30};
constexpr int kResultFd = 3;

// Runs what the first argument names and writes those of its values that are settings (the second
// argument) as JSON to descriptor 3: {"values": {…}} or {"error": "…"}.
constexpr const char* kProgram = R"(
import importlib, json, math, os, sys

def plain(value):
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode(errors="replace")
    if isinstance(value, os.PathLike):
        return plain(os.fspath(value))
    if isinstance(value, dict):
        return {str(key): plain(element) for key, element in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(element) for element in value]
    if isinstance(value, type):
        return value.__module__ + "." + value.__qualname__
    if callable(value):
        return "function " + getattr(value, "__name__", type(value).__name__)
    return repr(value)

def run(where):
    if where.startswith("python:"):
        return vars(importlib.import_module(where[7:]))
    path = where[5:] if where.startswith("file:") else where
    if path.endswith(".toml"):
        import tomllib
        with open(path, "rb") as file:
            return tomllib.load(file)
    names = {"__builtins__": __builtins__, "__name__": "__config__",
             "__file__": os.path.abspath(path), "__doc__": None, "__package__": None}
    with open(path, "rb") as file:
        exec(compile(file.read(), path, "exec"), names)
    return names

def explain(error, where):
    if isinstance(error, SyntaxError) and error.lineno:
        return "line %d: %s" % (error.lineno, error.msg)
    text = "%s: %s" % (type(error).__name__, error)
    line, step = None, error.__traceback__
    while step:
        if step.tb_frame.f_globals.get("__name__") == "__config__":
            line = step.tb_lineno
        step = step.tb_next
    return text if line is None else "line %d: %s" % (line, text)

def main(where, names):
    try:
        found = run(where)
        values = {name: plain(found[name]) for name in names if name in found}
        text = json.dumps({"values": values})
    except BaseException as error:
        text = json.dumps({"error": explain(error, where)})
    with open(3, "w") as result:
        result.write(text)
    sys.stdout.flush()
    os._exit(0)

main(sys.argv[1], sys.argv[2].split(","))
)";

std::string names_of_settings(Server server) {
  std::string names;
  for (const ForeignSetting& setting : foreign_settings(server))
    names += (names.empty() ? "" : ",") + std::string(setting.name);
  return names;
}

// The child; its answer comes by `result`.
Result<pid_t> spawn(const std::string& python, const std::string& file, const std::string& names,
                    int result) {
  const char* const arguments[] = {python.c_str(), "-B",          "-c",   kProgram,
                                   file.c_str(),   names.c_str(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, 2, 1);
  posix_spawn_file_actions_adddup2(&actions, result, kResultFd);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, python.c_str(), &actions, nullptr,
                                  const_cast<char* const*>(arguments), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return Error::from_errno(python, error);
  return pid;
}

enum class End { complete, too_late };

// Reads up to the end of the pipe, or for kLongest.
End read_all(int fd, std::string& text) {
  const auto deadline = Clock::now() + kLongest;
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return End::too_late;
    pollfd watched{fd, POLLIN, 0};
    if (::poll(&watched, 1, static_cast<int>(left.count())) <= 0) continue;
    char buffer[16384];
    const ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return End::complete;
    text.append(buffer, static_cast<std::size_t>(count));
  }
}

// An exception's text may have several lines.
std::string on_one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return text;
}

}  // namespace

Server server_of_file(const std::string& file) {
  return file.ends_with(".toml") ? Server::hypercorn : Server::gunicorn;
}

Result<Given> run_settings_file(Server server, const std::string& file, const std::string& python) {
  int ends[2];
  // Above 3, so that the copy is another descriptor, which outlives the exec.
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno("pipe");
  UniqueFd from(::fcntl(ends[0], F_DUPFD_CLOEXEC, 10));
  UniqueFd to(::fcntl(ends[1], F_DUPFD_CLOEXEC, 10));
  ::close(ends[0]);
  ::close(ends[1]);
  if (!from || !to) return Error::from_errno("pipe");
  Result<pid_t> pid = spawn(python, file, names_of_settings(server), to.get());
  if (!pid) return std::move(pid).error();
  to.reset();
  std::string text;
  const End end = read_all(from.get(), text);
  if (end == End::too_late) ::kill(*pid, SIGKILL);
  int status = 0;
  while (::waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (end == End::too_late)
    return Error(fmt::format("{}: not done within {} s", file, kLongest.count()));
  const json answer = json::parse(text, nullptr, false);
  if (answer.is_discarded() || !answer.is_object())
    return Error(fmt::format("{}: {} ended without an answer", file, python));
  if (answer.contains("error"))
    return Error(file + ": " + on_one_line(answer["error"].get<std::string>()));
  Given given;
  given.server = server;
  for (const auto& [name, value] : answer["values"].items()) given.values[name] = value;
  return given;
}

}  // namespace mgr::foreign
