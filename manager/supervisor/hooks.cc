#include "manager/supervisor/hooks.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "common/settings/hooks.h"
#include "manager/supervisor/privileges.h"
#include "manager/supervisor/restarts.h"
#include "manager/supervisor/times.h"

namespace mgr::manager {
namespace {

using nlohmann::ordered_json;

// Seconds; ends a command that has outlived us, and its patience.
constexpr unsigned kAlarm = Hooks::kPatience / std::chrono::seconds(1) + 1;

// Empty: none.
std::string_view hook_of(EventKind kind) {
  switch (kind) {
    case EventKind::ready:
      return settings::kHookReady;
    case EventKind::reload_finished:
      return settings::kHookReloaded;
    case EventKind::reload_rolled_back:
    case EventKind::reload_refused:
      return settings::kHookReloadFailed;
    case EventKind::worker_died:
      return settings::kHookWorkerDied;
    case EventKind::stopped:
      return settings::kHookStopped;
    case EventKind::generation_loaded:
    case EventKind::mold_failed:
    case EventKind::worker_ready:
    case EventKind::worker_recycled:
    case EventKind::worker_hung:
    case EventKind::worker_left:
    case EventKind::reload_begun:
    case EventKind::restart_begun:
    case EventKind::restart_finished:
    case EventKind::scaled:
    case EventKind::drained:
    case EventKind::undrained:
    case EventKind::stopping:
      return "";
  }
  return "";
}

std::string variable(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return "MGR_" + name;
}

// The child's way from fork to exec. Output goes to `output`, -1: where ours goes.
[[noreturn]] void become_command(const std::string& command,
                                 const std::vector<std::string>& environment, int output) {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setpgid(0, 0);
  drop_capabilities();
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) ::dup2(null, 0);
  ::dup2(output < 0 ? 2 : output, 1);
  if (output >= 0) ::dup2(output, 2);
  for (const auto& entry : environment) ::putenv(const_cast<char*>(entry.c_str()));
  ::alarm(kAlarm);
  ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
  ::_exit(127);
}

std::string first_line(std::string text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  text = text.substr(begin, text.find_first_of("\r\n", begin) - begin);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

}  // namespace

// One command, and what it writes.
class Hooks::Running {
 public:
  Running(EventLoop& loop, std::string name, pid_t pid, UniqueFd output)
      : name_(std::move(name)),
        pid_(pid),
        output_(std::move(output)),
        reader_(loop, output_.get(), [this](int, int) { read(); }),
        patience_(loop, [this] {
          late_ = true;
          ::kill(-pid_, SIGKILL);
        }) {
    reader_.start(FdWatcher::kReadable);
    patience_.start(kPatience);
  }

  const std::string& name() const { return name_; }
  bool late() const { return late_; }
  std::string said() {
    while (text_.size() < kMostOutput && read()) continue;
    return first_line(text_);
  }

 private:
  // One piece: what writes without end must not keep the loop here. False: nothing is there.
  bool read() {
    char part[4096];
    ssize_t n;
    do {
      n = ::read(output_.get(), part, sizeof part);
    } while (n < 0 && errno == EINTR);
    if (n == 0) reader_.stop();
    if (n <= 0) return false;
    text_.append(part, std::min(static_cast<std::size_t>(n), kMostOutput - text_.size()));
    return true;
  }

  std::string name_;
  pid_t pid_;
  UniqueFd output_;
  FdWatcher reader_;
  Timer patience_;
  std::string text_;
  bool late_ = false;
};

Hooks::Hooks(EventLoop& loop, const Log& log) : loop_(loop), log_(log) {}
Hooks::~Hooks() = default;

void Hooks::set_environment(std::map<std::string, std::string> environment) {
  environment_ = std::move(environment);
}

void Hooks::on_event(const Event& event, const std::map<std::string, std::string>& hooks) {
  const std::string name(hook_of(event.kind));
  const auto hook = hooks.find(name);
  if (name.empty() || hook == hooks.end()) return;
  // That of the end is never too many.
  if (running_.size() >= kMostRunning && event.kind != EventKind::stopped) {
    log_.warning("hook {}: skipped, as {} commands run already", name, running_.size());
    return;
  }
  start(name, hook->second, event);
}

void Hooks::start(const std::string& name, const std::string& command, const Event& event) {
  const auto environment = environment_of(event);
  // The last one outlives us, and nobody reads what it writes.
  const bool last = event.kind == EventKind::stopped;
  int ends[2] = {-1, -1};
  if (!last && ::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    return log_.error("hook {}: {}", name, Error::from_errno("pipe").message());
  }
  UniqueFd output(ends[0]);
  const UniqueFd write(ends[1]);
  if (write) ::fcntl(write.get(), F_SETFL, 0);  // its own end waits, as programs expect
  const pid_t pid = ::fork();
  if (pid == 0) become_command(command, environment, write.get());
  if (pid < 0) return log_.error("hook {}: {}", name, Error::from_errno("fork").message());
  ::setpgid(pid, pid);
  log_.debug("hook {}: pid {} runs", name, pid);
  if (!last) running_[pid] = std::make_unique<Running>(loop_, name, pid, std::move(output));
}

std::vector<std::string> Hooks::environment_of(const Event& event) const {
  std::vector<std::string> entries;
  for (const auto& [key, value] : environment_) entries.push_back(key + "=" + value);
  entries.push_back("MGR_EVENT=" + std::string(to_string(event.kind)));
  for (const auto& [key, value] : event.fields.items()) {
    const std::string text =
        value.is_string() ? value.get<std::string>()
                          : value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
    entries.push_back(variable(key) + "=" + text);
  }
  return entries;
}

bool Hooks::on_exit(pid_t pid, int status) {
  auto found = running_.extract(pid);
  if (found.empty()) return false;
  Running& running = *found.mapped();
  const std::string said = running.said();
  const std::string end = said.empty() ? "" : ": " + said;
  if (running.late()) {
    log_.error("hook {}: killed, as it took longer than {}{}", running.name(), seconds(kPatience),
               end);
  } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    log_.error("hook {}: {}{}", running.name(), describe_exit(status), end);
  } else {
    log_.debug("hook {}: done{}", running.name(), end);
  }
  return true;
}

}  // namespace mgr::manager
