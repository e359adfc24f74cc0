#include "worker/life/worker.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/ipc/inherited.h"
#include "worker/life/log_files.h"
#include "worker/life/signals.h"

namespace mgr::worker {
namespace {

// pthread_atfork's handlers take no argument.
Worker* worker_of_this_process = nullptr;

server::ServerOptions options_from(const Settings& settings) {
  server::ServerOptions options = server::ServerOptions::from(settings);
  // Without an access log the number is free, and something else has it by now.
  options.access_log_fd = settings.access_log.empty() ? -1 : ipc::kAccessLogFd;
  return options;
}

}  // namespace

const char* name(Leave how) {
  switch (how) {
    case Leave::shut_down:
      return "shut_down";
    case Leave::cut:
      return "cut";
    case Leave::now:
      return "now";
  }
  return "now";
}

Worker::Worker(Identity identity, const Settings& settings, server::Application& application,
               Host& host, ipc::WorkerRecord& record, Log& log)
    : graceful_timeout_(settings.graceful_timeout),
      channel_(std::move(identity.channel)),
      record_(record),
      max_requests_(identity.max_requests),
      host_(host),
      log_(log),
      stacks_(std::move(identity.stacks)) {
  record_.pid.store(::getpid(), std::memory_order_relaxed);
  ipc::begin_run(record_, ipc::monotonic_ns());
  auto last_resort = LastResort::create(identity.supervisor, graceful_timeout_ + kLastResortSlack);
  if (last_resort) {
    last_resort_.emplace(std::move(*last_resort));
  } else {
    log_.error("{}", last_resort.error().message());
    ::_exit(1);
  }
  disregard_group_signals();
  server_ =
      std::make_unique<server::Server>(loop_, options_from(settings), application, record_, log_);
  channel_watcher_.emplace(loop_, channel_.fd(), [this](int, int) { on_channel(); });
  channel_watcher_->start(FdWatcher::kReadable);
  timeout_.emplace(loop_, [this] { wake(); });
  deadline_.emplace(loop_, [this] { step(Event::deadline); });
  waits_.emplace(
      loop_, [this] { end_turn(); }, [this] { ipc::begin_run(record_, ipc::monotonic_ns()); });
  CHECK(!worker_of_this_process);
  worker_of_this_process = this;
  static const int registered =
      pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  CHECK(registered == 0);
  if (last_resort_->orphaned()) last_resort_->arm(graceful_timeout_ + kLastResortSlack);
}

Worker::~Worker() {
  worker_of_this_process = nullptr;
  ipc::end_run(record_, ipc::monotonic_ns());
}

// A signal for the new process that came before its dispositions are the default again would be
// lost.
void Worker::before_fork() noexcept {
  if (worker_of_this_process) block_group_signals();
}

void Worker::after_fork_in_parent() noexcept {
  if (worker_of_this_process) unblock_group_signals();
}

// What the application forks (multiprocessing) must keep no listening socket, no connection and no
// channel alive after the worker has closed its own.
void Worker::after_fork_in_child() noexcept {
  Worker* worker = std::exchange(worker_of_this_process, nullptr);
  if (!worker) return;
  worker->server_->close_in_forked_child();
  ::close(worker->channel_.fd());
  ::close(worker->loop_.backend_fd());
  worker->stacks_.leave_forked_child();
  regard_group_signals();
  unblock_group_signals();
}

void Worker::end_turn() {
  ipc::end_run(record_, ipc::monotonic_ns());
  if (max_requests_ == 0 || ipc::requests(record_) < max_requests_) return;
  max_requests_ = 0;
  send(ipc::Spent{});
}

void Worker::report_last_words(int memfd) {
  send(ipc::LastWords{}, UniqueFd(::fcntl(memfd, F_DUPFD_CLOEXEC, 3)));
}

void Worker::booted(const std::string& interface) {
  if (state_ != State::booting) return;
  step(Event::booted);
  // A start-up that blocks delays no request.
  ipc::forget_lag(record_, ipc::monotonic_ns());
  send(ipc::Ready{interface});
}

void Worker::boot_failed(const ipc::BootFailed& failure, const std::string& traceback) {
  UniqueFd memfd;
  if (!traceback.empty()) {
    if (auto made = ipc::sealed_memfd("mgr-traceback", traceback)) memfd = std::move(*made);
  }
  send(failure, std::move(memfd));
}

void Worker::run(std::optional<std::chrono::milliseconds> timeout) {
  const bool poll_only = woken_ || (timeout && timeout->count() <= 0);
  if (poll_only) {
    loop_.run_nowait();
  } else {
    if (timeout) {
      loop_.update_now();
      timeout_->start(*timeout);
    }
    turning_ = true;
    while (!woken_) loop_.run_once();
    turning_ = false;
    if (timeout) timeout_->stop();
  }
  woken_ = false;
}

// A timer that is due already is called before the turn's wait, which would not end for it.
void Worker::wake() {
  woken_ = true;
  if (turning_) loop_.stop();
}

void Worker::watch(int fd) {
  watched_.reset();
  if (fd < 0) return;
  watched_.emplace(loop_, fd, [this](int, int) {
    watched_ready_ = true;
    wake();
  });
  watched_->start(FdWatcher::kReadable);
}

std::chrono::milliseconds Worker::time_to_leave() const {
  return std::max(leave_by_ - loop_.now(), std::chrono::milliseconds(0));
}

void Worker::on_channel() {
  flush();
  for (;;) {
    if (!channel_.open()) return;
    ipc::Record record;
    switch (channel_.receive(record)) {
      case ipc::Channel::ReceiveResult::none:
        return;
      case ipc::Channel::ReceiveResult::closed:
        lose_supervisor();
        return;
      case ipc::Channel::ReceiveResult::bad:
        log_.error("channel: a record from the supervisor was cut");
        continue;
      case ipc::Channel::ReceiveResult::received:
        break;
    }
    auto command = ipc::decode_worker_command(record.text);
    if (!command) {
      log_.error("{}", command.error().message());
      continue;
    }
    obey(std::move(*command), std::move(record.descriptors));
  }
}

void Worker::obey(ipc::WorkerCommand command, std::vector<UniqueFd> descriptors) {
  descriptors_ = std::move(descriptors);
  struct Visitor {
    Worker& worker;
    void operator()(ipc::Listen& m) {
      worker.listen_ = std::move(m);
      worker.step(Event::listen);
    }
    void operator()(ipc::Release& m) {
      worker.release_ = std::move(m);
      worker.step(Event::release);
    }
    void operator()(ipc::Hold&) { worker.step(Event::hold); }
    void operator()(ipc::Drain& m) {
      worker.drain_ = m;
      worker.step(Event::drain);
    }
    void operator()(ipc::Quit&) {
      worker.how_ = Leave::now;  // also where it leaves already
      worker.step(Event::quit);
    }
    void operator()(ipc::TryAccept&) { worker.server_->try_accept(); }
    void operator()(ipc::CloseAfterResponse&) { worker.server_->close_after_response(); }
    void operator()(ipc::KeepAfterResponse&) { worker.server_->keep_after_response(); }
    void operator()(ipc::Reopen& m) { worker.reopen(m); }
    void operator()(ipc::SetLogLevel& m) { worker.log_.set_level(m.level); }
  };
  std::visit(Visitor{*this}, command);
  descriptors_.clear();
}

void Worker::reopen(const ipc::Reopen& order) {
  if (!take_log_files(order, descriptors_)) {
    return log_.error("channel: a Reopen came without its descriptors");
  }
  send(ipc::Reopened{order.serial});
}

void Worker::lose_supervisor() {
  channel_watcher_.reset();
  channel_.close();
  unsent_.clear();
  regard_group_signals();
  if (state_ != State::leaving) log_.warning("the supervisor is gone: finishing, then leaving");
  drain_ = ipc::Drain{.last = false, .timeout_ms = graceful_timeout_.count()};
  step(Event::supervisor_gone);
}

void Worker::step(Event event) {
  const Step to = next(state_, event);
  state_ = to.state;
  act(to.action);
}

void Worker::act(Action action) {
  switch (action) {
    case Action::none:
    case Action::send_ready:
      return;
    case Action::accept:
      return accept();
    case Action::release:
      for (const std::uint64_t id : release_.ids) {
        if (server_->has_listener(id)) server_->remove_listener(id, server::Server::Queued::leave);
      }
      return;
    case Action::stop_accepting:
      server_->remove_all_listeners(server::Server::Queued::leave);
      send(ipc::StoppedAccepting{});
      return;
    case Action::begin_drain:
      return begin_drain();
    case Action::tighten_deadline:
      return tighten_deadline();
    case Action::shut_down:
      return leave(Leave::shut_down);
    case Action::cut_and_shut_down:
      return leave(Leave::cut);
    case Action::leave_now:
      return leave(Leave::now);
    case Action::exit_now:
      if (how_ != Leave::now) {
        log_.warning(
            "the application's shutdown did not finish within graceful_timeout: the worker "
            "ends without it");
      }
      ::_exit(0);
  }
}

void Worker::accept() {
  if (listen_.entries.size() != descriptors_.size()) {
    log_.error("channel: {} sockets announced, {} came", listen_.entries.size(),
               descriptors_.size());
    return;
  }
  for (std::size_t i = 0; i < listen_.entries.size(); ++i) {
    const auto& entry = listen_.entries[i];
    if (server_->has_listener(entry.id)) continue;
    const auto sharing =
        entry.shared ? server::Server::Sharing::shared : server::Server::Sharing::own;
    server_->add_listener(entry.id, std::move(descriptors_[i]), entry.address, sharing);
  }
}

void Worker::begin_drain() {
  // Nobody else takes what is queued, at the end of the service or without a supervisor.
  const bool take = drain_.last || !channel_.open();
  const auto queued = take ? server::Server::Queued::take : server::Server::Queued::leave;
  server_->remove_all_listeners(queued);
  send(ipc::StoppedAccepting{});
  const auto timeout = std::chrono::milliseconds(drain_.timeout_ms);
  loop_.update_now();
  leave_by_ = loop_.now() + timeout;
  deadline_->start(timeout);
  last_resort_->arm(timeout + kLastResortSlack);
  server_->drain([this] { step(Event::idle); });
  if (drain_.last) server_->part_from_idle();
}

void Worker::tighten_deadline() {
  if (drain_.last) server_->part_from_idle();
  const auto timeout = std::chrono::milliseconds(drain_.timeout_ms);
  loop_.update_now();
  if (loop_.now() + timeout >= leave_by_) return;
  leave_by_ = loop_.now() + timeout;
  deadline_->start(timeout);
  last_resort_->arm(timeout + kLastResortSlack);
}

void Worker::leave(Leave how) {
  how_ = how;
  if (how == Leave::cut && server_->in_flight() > 0) {
    log_.warning("requests cut, as graceful_timeout is over: {}; the worker leaves",
                 server_->in_flight());
  }
  if (how != Leave::shut_down) {
    server_->remove_all_listeners(server::Server::Queued::leave);
    server_->close_connections();
    leave_by_ = loop_.now() + kShutdownGrace;
    deadline_->start(kShutdownGrace);
    last_resort_->arm(kShutdownGrace + kLastResortSlack);
  }
  host_.on_leave(how);
  wake();
}

void Worker::send(const ipc::WorkerMessage& message, UniqueFd attachment) {
  if (!channel_.open()) return;
  unsent_.push_back({ipc::encode(message), std::move(attachment)});
  flush();
}

void Worker::flush() {
  while (!unsent_.empty()) {
    const Outgoing& first = unsent_.front();
    std::vector<int> attached;
    if (first.attachment) attached.push_back(first.attachment.get());
    const auto result = channel_.send(first.text, attached);
    if (result == ipc::Channel::SendResult::would_block) break;
    unsent_.pop_front();  // sent, or the supervisor is gone, which the next read will tell
  }
  if (!channel_watcher_) return;
  channel_watcher_->start(unsent_.empty() ? FdWatcher::kReadable
                                          : FdWatcher::kReadable | FdWatcher::kWritable);
}

}  // namespace mgr::worker
