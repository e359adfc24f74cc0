#include "manager/supervisor/notify.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "manager/supervisor/lifecycle.h"

namespace mgr::manager {
namespace {

constexpr Millis kAgain{50};
// While nobody reads, the newest count.
constexpr std::size_t kMostWaiting = 32;
constexpr std::size_t kLongestStatus = 400;  // bytes
constexpr std::int64_t kMostStored = 1 << 20;

std::string take(const char* name) {
  const char* value = std::getenv(name);
  const std::string text = value ? value : "";
  ::unsetenv(name);
  return text;
}

std::optional<std::int64_t> number(const std::string& text) {
  std::int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || rest != end || value < 0) return {};
  return value;
}

// A status that a line break can't turn into another assignment, cut between characters.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  if (text.size() <= kLongestStatus) return text;
  std::size_t end = kLongestStatus;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + " …";
}

std::int64_t monotonic_usec() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

std::string state_lines(ServiceReport::State state) {
  switch (state) {
    case ServiceReport::State::starting:
      return "";
    case ServiceReport::State::ready:
      // For a service manager that has started us by way of a script. Where we are the first
      // process of a container, our number means nothing to it.
      return ::getpid() == 1 ? "READY=1\n" : fmt::format("READY=1\nMAINPID={}\n", ::getpid());
    case ServiceReport::State::reloading:
      return fmt::format("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic_usec());
    case ServiceReport::State::stopping:
      return "STOPPING=1\n";
  }
  return "";
}

ServiceReport::State state_of(const Lifecycle& lifecycle) {
  switch (lifecycle.phase()) {
    case Phase::starting:
      return ServiceReport::State::starting;
    case Phase::draining:
    case Phase::stopping:
      return ServiceReport::State::stopping;
    case Phase::running:
      break;
  }
  return lifecycle.reloading() ? ServiceReport::State::reloading : ServiceReport::State::ready;
}

// "2 workers, generation 3", "1 of 2 workers, generation 3"
std::string service_line(const Lifecycle& lifecycle) {
  const int serving = lifecycle.count_serving();
  const Generation* generation = lifecycle.generation();
  return fmt::format("{} worker{}, generation {}{}",
                     serving == lifecycle.target()
                         ? std::to_string(serving)
                         : fmt::format("{} of {}", serving, lifecycle.target()),
                     lifecycle.target() == 1 ? "" : "s", generation ? generation->number : 0,
                     lifecycle.traffic() == Traffic::drained ? ", drained" : "");
}

std::string status_of(const Lifecycle& lifecycle, ServiceReport::State state) {
  switch (state) {
    case ServiceReport::State::starting:
      return "starting";
    case ServiceReport::State::stopping:
      return lifecycle.last_words().empty() ? "stopping" : lifecycle.last_words();
    case ServiceReport::State::reloading:
      return service_line(lifecycle) + "; reloading";
    case ServiceReport::State::ready:
      break;
  }
  const auto& last = lifecycle.last_reload();
  if (!last || last->ok || !last->failure) return service_line(lifecycle);
  const bool refused = last->failure->stage == "configuration";
  return fmt::format("{}; last reload {}: {}: {}", service_line(lifecycle),
                     refused ? "refused" : "rolled back", last->failure->stage,
                     last->failure->error);
}

// Upper bounds of what the settings allow; a service manager gives up after them.
Millis patience_of(const Lifecycle& lifecycle, ServiceReport::State state) {
  const Generation* generation = lifecycle.generation();
  if (!generation) return Millis(0);
  const Settings& settings = *generation->settings;
  switch (state) {
    case ServiceReport::State::starting:
      // A mold, one more without the application where it can't be forked, and the workers.
      return 3 * settings.boot_timeout + kLeaveTime;
    case ServiceReport::State::reloading:
      // The same, but the first worker and then four quarters, one after the other; the first and
      // then all may be blocked for a while before their loops turn.
      return 8 * settings.boot_timeout + std::max(settings.boot_timeout, settings.timeout) +
             2 * settings.min_ready + kLeaveTime;
    case ServiceReport::State::stopping:
      return settings.drain_delay + settings.graceful_timeout + kCutTime + 2 * kLeaveTime;
    case ServiceReport::State::ready:
      return Millis(0);
  }
  return Millis(0);
}

}  // namespace

NotifyOptions NotifyOptions::take_from_environment() {
  NotifyOptions options;
  options.socket = take("NOTIFY_SOCKET");
  const auto period = number(take("WATCHDOG_USEC"));
  const std::string pid = take("WATCHDOG_PID");
  const bool ours = pid.empty() || pid == std::to_string(::getpid());
  if (period && ours) options.watchdog = std::chrono::microseconds(*period);
  // Only newer versions of systemd say so by themselves; for the others the unit does.
  if (const auto store = number(take("FDSTORE"))) {
    options.store = static_cast<int>(std::min<std::int64_t>(*store, kMostStored));
  }
  return options;
}

ServiceReport service_report(const Lifecycle& lifecycle) {
  const auto state = state_of(lifecycle);
  return {state, status_of(lifecycle, state), patience_of(lifecycle, state)};
}

Notifier::Notifier(EventLoop& loop, const NotifyOptions& options, const Log& log)
    : log_(log), options_(options), again_(loop, [this] { flush(); }), watchdog_(loop, [this] {
        if (waiting_.empty()) send({"WATCHDOG=1\n"});
      }) {
  again_.unref();
  watchdog_.unref();
  if (options.socket.empty()) return;
  auto address = net::make_unix_address(options.socket);
  if (!address || (options.socket[0] != '/' && options.socket[0] != '@')) {
    log_.warning(
        "NOTIFY_SOCKET: '{}' is no path and no abstract socket; the service manager is not "
        "notified",
        options.socket);
    return;
  }
  address_ = *address;
  socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket_ && options.watchdog.count() > 0) {
    const auto half = std::chrono::duration_cast<Millis>(options.watchdog / 2);
    watchdog_.start_repeating(std::max(half, Millis(1)));
  }
}

void Notifier::tell(const ServiceReport& report) {
  if (!socket_) return;
  if (told_ && told_->state == ServiceReport::State::stopping) return;
  std::string message;
  if (!told_ || told_->state != report.state) {
    message = state_lines(report.state);
    if (report.patience.count() > 0) {
      message += fmt::format("EXTEND_TIMEOUT_USEC={}\n",
                             std::chrono::microseconds(report.patience).count());
    }
  }
  if (!told_ || told_->status != report.status) message += "STATUS=" + one_line(report.status);
  told_ = report;
  if (!message.empty()) send({std::move(message)});
}

bool Notifier::keep(const std::string& name, int fd) {
  if (!socket_) return false;
  if (kept_.contains(name)) return true;
  if (static_cast<int>(kept_.size()) >= options_.store) {
    if (options_.store > 0 && !std::exchange(store_full_, true)) {
      log_.warning(
          "the service manager keeps no more than {} descriptors (FileDescriptorStoreMax): "
          "connections that wait in the queues of the other sockets are lost should the "
          "supervisor be killed",
          options_.store);
    }
    return false;
  }
  kept_.insert(name);
  // It need not watch them: a listening socket never hangs up.
  send({fmt::format("FDSTORE=1\nFDPOLL=0\nFDNAME={}\n", name),
        UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3))});
  return true;
}

void Notifier::forget(const std::string& name) {
  if (!socket_ || options_.store == 0) return;
  kept_.erase(name);
  send({fmt::format("FDSTOREREMOVE=1\nFDNAME={}\n", name)});
}

// Reports give way to newer ones, descriptors don't.
void Notifier::send(Message message) {
  if (waiting_.size() >= kMostWaiting) {
    const auto oldest = std::find_if(waiting_.begin(), waiting_.end(), [](const Message& one) {
      return !one.descriptor && !one.text.starts_with("FDSTORE");
    });
    if (oldest != waiting_.end()) waiting_.erase(oldest);
  }
  waiting_.push_back(std::move(message));
  flush();
}

void Notifier::flush() {
  while (!waiting_.empty() && deliver(waiting_.front())) waiting_.pop_front();
  if (!waiting_.empty()) again_.start(kAgain);
}

bool Notifier::deliver(const Message& message) {
  iovec part{const_cast<char*>(message.text.data()), message.text.size()};
  msghdr header{};
  header.msg_name = const_cast<sockaddr*>(address_.get());
  header.msg_namelen = address_.length;
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  if (message.descriptor) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = message.descriptor.get();
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  const ssize_t n = ::sendmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n >= 0) return true;
  if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR || errno == ETOOMANYREFS) return false;
  const Error error = Error::from_errno("the service manager could not be notified");
  if (!std::exchange(warned_, true)) log_.warning("{}", error.message());
  return true;
}

}  // namespace mgr::manager
