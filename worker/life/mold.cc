#include "worker/life/mold.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "common/base/process_title.h"
#include "common/ipc/inherited.h"
#include "worker/life/forked.h"
#include "worker/life/log_files.h"
#include "worker/life/signals.h"

namespace mgr::worker {
namespace {

Result<void> close_on_exec(int fd, const char* what) {
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return Error::from_errno(what);
  return {};
}

void pause_for(long nanoseconds) {
  const timespec pause{0, nanoseconds};
  ::nanosleep(&pause, nullptr);
}

// The middle process tells the worker's pid (or a negative errno) before it ends.
[[noreturn]] void be_the_middle(int report, pid_t worker) {
  const int told = worker > 0 ? worker : -errno;
  (void)!::write(report, &told, sizeof told);
  ::_exit(0);
}

int read_told(int fd) {
  int told = -EPIPE;
  ssize_t n;
  do {
    n = ::read(fd, &told, sizeof told);
  } while (n < 0 && errno == EINTR);
  return n == sizeof told ? told : -EPIPE;
}

// "mgr: mold [main:app] gen 2"
void set_title(const std::string& what, const Settings& settings, int generation,
               const std::string& name) {
  set_process_title("mgr: " + what + " [" + settings.app + "] gen " + std::to_string(generation),
                    name);
}

void reap(pid_t pid) {
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

Log log_for(const Settings& settings, std::string who) {
  return Log(ipc::kLogFd, settings.log_format, settings.log_level, std::move(who));
}

Result<Mold> Mold::take() {
  const std::pair<int, const char*> inherited[] = {
      {ipc::kChannelFd, "channel (descriptor 3)"},
      {ipc::kSettingsFd, "order (descriptor 4)"},
      {ipc::kScoreboardFd, "scoreboard (descriptor 5)"},
      {ipc::kLogFd, "log (descriptor 6)"}};
  for (const auto& [fd, what] : inherited) {
    if (auto set = close_on_exec(fd, what); !set) return std::move(set).error();
  }
  (void)::fcntl(ipc::kAccessLogFd, F_SETFD, FD_CLOEXEC);  // closed where there is no access log

  UniqueFd order_fd(ipc::kSettingsFd);
  auto text = ipc::read_all(order_fd.get());
  if (!text) return std::move(text).error();
  auto order = ipc::decode_mold_order(*text);
  if (!order) return std::move(order).error();
  auto settings = Settings::from_json(order->settings);
  if (!settings) return std::move(settings).error().with("settings");
  auto scoreboard = ipc::Scoreboard::attach(ipc::kScoreboardFd);
  if (!scoreboard) return std::move(scoreboard).error();
  ::close(ipc::kScoreboardFd);
  disregard_group_signals();
  claim_process();
  set_title("mold", *settings, order->generation, "mgr mold");
  return Mold(ipc::Channel(UniqueFd(ipc::kChannelFd)), std::move(*order), std::move(*settings),
              std::move(*scoreboard));
}

Mold::Mold(ipc::Channel channel, ipc::MoldOrder order, Settings settings,
           ipc::Scoreboard scoreboard)
    : channel_(std::move(channel)),
      order_(std::move(order)),
      settings_(std::move(settings)),
      scoreboard_(std::move(scoreboard)),
      log_(log_for(settings_, "mold gen " + std::to_string(order_.generation))),
      supervisor_(::getppid()) {}

void Mold::report(const ipc::MoldMessage& message, const std::string& traceback) {
  std::vector<int> descriptors;
  UniqueFd memfd;
  if (!traceback.empty()) {
    if (auto made = ipc::sealed_memfd("mgr-traceback", traceback)) {
      memfd = std::move(*made);
      descriptors.push_back(memfd.get());
    }
  }
  send(message, descriptors);
}

void Mold::report_last_words(int memfd) {
  send(ipc::LastWords{}, {memfd});
}

void Mold::send(const ipc::MoldMessage& message, const std::vector<int>& descriptors) {
  const std::string text = ipc::encode(message);
  while (channel_.send(text, descriptors) == ipc::Channel::SendResult::would_block) {
    pollfd poll{channel_.fd(), POLLOUT, 0};
    ::poll(&poll, 1, 1000);
  }
}

std::optional<Mold::Request> Mold::receive() {
  for (;;) {
    ipc::Record record;
    switch (channel_.receive(record, ipc::Channel::Wait::yes)) {
      case ipc::Channel::ReceiveResult::closed:
        return std::nullopt;
      case ipc::Channel::ReceiveResult::none:
      case ipc::Channel::ReceiveResult::bad:
        continue;
      case ipc::Channel::ReceiveResult::received:
        break;
    }
    auto command = ipc::decode_mold_command(record.text);
    if (!command) {
      log_.error("{}", command.error().message());
      continue;
    }
    if (auto request = obey(*command, std::move(record.descriptors))) return request;
  }
}

std::optional<Mold::Request> Mold::obey(const ipc::MoldCommand& command,
                                        std::vector<UniqueFd> descriptors) {
  if (const auto* reopen = std::get_if<ipc::Reopen>(&command)) {
    if (take_log_files(*reopen, descriptors)) {
      report(ipc::Reopened{reopen->serial});
    } else {
      log_.error("channel: a Reopen came without its descriptors");
    }
    return std::nullopt;
  }
  if (const auto* set = std::get_if<ipc::SetLogLevel>(&command)) {
    log_.set_level(set->level);
    settings_.log_level = set->level;  // that of the workers to come
    return std::nullopt;
  }
  const auto& fork = std::get<ipc::Fork>(command);
  if (descriptors.empty()) {
    report(ipc::ForkFailed{fork.worker, "the order to fork came without a channel"});
    return std::nullopt;
  }
  Request request{fork, std::move(descriptors.front()), {}};
  if (descriptors.size() > 1) request.stacks = std::move(descriptors[1]);
  return request;
}

std::optional<Identity> Mold::fork(Request request, const ForkHooks& hooks) {
  int report_pipe[2];
  if (::pipe2(report_pipe, O_CLOEXEC) != 0) {
    report(ipc::ForkFailed{request.fork.worker, Error::from_errno("pipe").message()});
    return std::nullopt;
  }
  UniqueFd told_here(report_pipe[0]);
  UniqueFd tell(report_pipe[1]);

  hooks.before();
  const pid_t middle = ::fork();
  if (middle == 0) {
    const pid_t middle_self = ::getpid();
    const pid_t worker = ::fork();
    if (worker != 0) be_the_middle(tell.get(), worker);
    // The supervisor's death can only be watched once the supervisor is the parent.
    while (::getppid() == middle_self) pause_for(50'000);
    claim_process();
    hooks.after_in_worker();
    channel_.close();
    const std::string slot = std::to_string(request.fork.slot);
    set_title("worker " + slot, settings_, order_.generation, "mgr worker " + slot);
    return Identity{std::move(request.channel), request.fork.slot,
                    request.fork.record,        supervisor_,
                    std::move(request.stacks),  request.fork.max_requests};
  }
  const int fork_error = errno;
  hooks.after_in_mold();
  request.channel.reset();
  tell.reset();
  if (middle < 0) {
    report(ipc::ForkFailed{request.fork.worker, Error::from_errno("fork", fork_error).message()});
    return std::nullopt;
  }
  const int told = read_told(told_here.get());
  reap(middle);
  if (told > 0) {
    report(ipc::Forked{request.fork.worker, told});
  } else {
    report(ipc::ForkFailed{request.fork.worker, Error::from_errno("fork", -told).message()});
  }
  return std::nullopt;
}

}  // namespace mgr::worker
