#include "manager/supervisor/process_world.h"

#include <fcntl.h>
#include <signal.h>

#include "common/base/cgroup.h"
#include "common/settings/cpus.h"
#include "manager/supervisor/core_file.h"
#include "manager/supervisor/mold_process.h"
#include "manager/supervisor/open_files.h"
#include "manager/supervisor/process_info.h"

namespace mgr::manager {
namespace {

std::chrono::milliseconds raw_now() {
  return std::chrono::milliseconds(ipc::monotonic_ns() / 1'000'000);
}

// The traceback that came beside a record, if any.
std::string traceback_of(const ipc::Record& record) {
  if (record.descriptors.empty()) return "";
  auto text = ipc::read_all(record.descriptors.front().get(), 1u << 20);
  return text ? std::move(*text) : "";
}

// Keeps the memfd that came with the record.
template <typename Id>
void keep_words(std::map<Id, UniqueFd>& words, Id who, ipc::Record& record) {
  if (!record.descriptors.empty()) words[who] = std::move(record.descriptors.front());
}

template <typename Id>
std::string words_of(const std::map<Id, UniqueFd>& words, Id who) {
  constexpr std::size_t kMost = 64 * 1024;
  const auto it = words.find(who);
  if (it == words.end()) return "";
  auto text = ipc::read_all(it->second.get(), kMost);
  if (!text) return "";
  text->resize(text->find_last_not_of('\n') + 1);
  return std::move(*text);
}

}  // namespace

Peer::Peer(EventLoop& loop, ipc::Channel channel, OnRecord on_record,
           std::function<void()> on_closed)
    : channel_(std::move(channel)),
      on_record_(std::move(on_record)),
      on_closed_(std::move(on_closed)),
      watcher_(loop, channel_.fd(), [this](int status, int events) {
        on_event(status < 0 ? FdWatcher::kReadable : events);
      }) {
  watch();
}

void Peer::watch() {
  watcher_.start(FdWatcher::kReadable | (waiting_.empty() ? 0 : FdWatcher::kWritable));
}

void Peer::on_event(int events) {
  const std::weak_ptr<bool> alive = alive_;  // a handler may end this peer
  if (events & FdWatcher::kWritable) flush();
  if (!(events & FdWatcher::kReadable)) return;
  ipc::Record record;
  for (;;) {
    switch (channel_.receive(record)) {
      case ipc::Channel::ReceiveResult::received: {
        auto handler = on_record_;
        handler(record);
        if (alive.expired()) return;
        break;
      }
      case ipc::Channel::ReceiveResult::none:
        return;
      case ipc::Channel::ReceiveResult::bad:
        break;
      case ipc::Channel::ReceiveResult::closed: {
        watcher_.stop();
        auto handler = on_closed_;
        handler();
        return;
      }
    }
  }
}

void Peer::send(std::string text, const std::vector<int>& descriptors) {
  if (waiting_.empty() &&
      channel_.send(text, descriptors) != ipc::Channel::SendResult::would_block) {
    return;
  }
  Waiting record{std::move(text), {}};
  for (const int fd : descriptors) record.descriptors.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  waiting_.push_back(std::move(record));
  watch();
}

void Peer::flush() {
  std::size_t sent = 0;
  for (; sent < waiting_.size(); ++sent) {
    std::vector<int> descriptors;
    for (const auto& fd : waiting_[sent].descriptors) descriptors.push_back(fd.get());
    if (channel_.send(waiting_[sent].text, descriptors) == ipc::Channel::SendResult::would_block)
      break;
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(sent));
  watch();
}

ProcessWorld::ProcessWorld(EventLoop& loop, Log& log, Listeners& listeners,
                           ipc::Scoreboard scoreboard, Options options)
    : loop_(loop),
      log_(log),
      listeners_(listeners),
      scoreboard_(std::move(scoreboard)),
      options_(std::move(options)),
      timer_(loop, [this] { events_.time(); }),
      looks_(loop, [this] { look(); }),
      stacks_(loop) {
  for (int i = ipc::kScoreboardRecords - 1; i >= 0; --i) free_records_.push_back(i);
}

std::chrono::milliseconds ProcessWorld::now() {
  return clock_.now(raw_now());
}

void ProcessWorld::wake_at(std::chrono::milliseconds when) {
  if (when == std::chrono::milliseconds::max()) {
    timer_.stop();
    wake_ = when;
    return expect();
  }
  const auto raw = raw_now();
  const auto delay = std::max(clock_.to_raw(when) - raw, std::chrono::milliseconds(0));
  loop_.update_now();
  timer_.start(delay);
  wake_ = raw + delay;
  expect();
}

void ProcessWorld::look_every(std::chrono::milliseconds period) {
  if (period == look_period_) return;
  look_period_ = period;
  if (period.count() == 0) {
    looks_.stop();
    next_look_ = std::chrono::milliseconds::max();
  } else {
    loop_.update_now();
    looks_.start(period);
    next_look_ = raw_now() + period;
  }
  expect();
}

// The clock sees how late this is before it is told what comes next.
void ProcessWorld::look() {
  now();
  looks_.start(look_period_);
  next_look_ = raw_now() + look_period_;
  expect();
  events_.look();
}

void ProcessWorld::expect() {
  clock_.expect(std::min(wake_, next_look_));
}

Result<pid_t> ProcessWorld::start_mold(MoldId mold, const ipc::MoldOrder& order) {
  if (auto room = room_for(kFilesOfWorker); !room) return std::move(room).error();
  auto pair = ipc::Channel::pair();
  if (!pair) return std::move(pair).error();
  MoldStart start;
  start.program = options_.worker_program;
  start.channel = pair->second.fd();
  start.scoreboard = scoreboard_.fd();
  start.log = options_.log_fd;
  start.access_log = options_.access_log_fd;
  start.order = &order;
  if (options_.account) start.account = &*options_.account;
  auto pid = start_mold_process(start);
  if (!pid) return pid;
  molds_[mold] = peer_of_mold(mold, std::move(pair->first));
  return pid;
}

std::unique_ptr<Peer> ProcessWorld::peer_of_mold(MoldId mold, ipc::Channel channel) {
  return std::make_unique<Peer>(
      loop_, std::move(channel),
      [this, mold](ipc::Record& record) {
        auto message = ipc::decode_mold_message(record.text);
        if (!message) return log_.error("mold: {}", message.error().message());
        if (std::holds_alternative<ipc::LastWords>(*message)) {
          return keep_words(mold_words_, mold, record);
        }
        if (const auto* reopened = std::get_if<ipc::Reopened>(&*message)) {
          return events_.log_files_taken(mold, reopened->serial);
        }
        events_.mold_message(mold, *message, traceback_of(record));
      },
      [] {});
}

void ProcessWorld::release_mold(MoldId mold) {
  molds_.erase(mold);  // a peer may end inside its own record: see Peer::on_event
  mold_words_.erase(mold);
}

void ProcessWorld::send_to_mold(MoldId mold, const ipc::MoldCommand& command) {
  const auto it = molds_.find(mold);
  if (it != molds_.end()) it->second->send(ipc::encode(command));
}

std::set<std::uint64_t> ProcessWorld::give_log_files(const ipc::Reopen& order) {
  std::vector<int> descriptors;
  if (order.log) descriptors.push_back(options_.log_fd);
  if (order.access_log) descriptors.push_back(options_.access_log_fd);
  std::set<std::uint64_t> told;
  for (const auto& [id, peer] : molds_) {
    peer->send(ipc::encode(ipc::MoldCommand{order}), descriptors);
    told.insert(id);
  }
  for (const auto& [id, peer] : workers_) {
    peer->send(ipc::encode(ipc::WorkerCommand{order}), descriptors);
    told.insert(id);
  }
  return told;
}

// Its sockets stay open for good, so there must be room for what its workers need.
Result<void> ProcessWorld::ensure_slots(int count) {
  const int more = count - listeners_.slots();
  if (more > 0) {
    auto room = room_for(more * (listeners_.sockets_of_slot() + kFilesOfWorker));
    if (!room) return std::move(room).error().with(fmt::format("workers: {}", count));
  }
  return listeners_.ensure_slots(count);
}

Result<void> ProcessWorld::fork_worker(MoldId mold, const ipc::Fork& order) {
  const auto it = molds_.find(mold);
  if (it == molds_.end()) return Error("its mold is gone");
  if (auto room = room_for(kFilesOfWorker); !room) return room;
  auto pair = ipc::Channel::pair();
  if (!pair) return std::move(pair).error();
  const WorkerId worker = order.worker;
  auto stacks = stacks_.open(worker);
  if (!stacks) return std::move(stacks).error();
  workers_[worker] = peer_of_worker(worker, std::move(pair->first));
  it->second->send(ipc::encode(ipc::MoldCommand{order}), {pair->second.fd(), stacks->get()});
  return {};
}

std::unique_ptr<Peer> ProcessWorld::peer_of_worker(WorkerId worker, ipc::Channel channel) {
  return std::make_unique<Peer>(
      loop_, std::move(channel),
      [this, worker](ipc::Record& record) {
        auto message = ipc::decode_worker_message(record.text);
        if (!message) return log_.error("worker: {}", message.error().message());
        if (std::holds_alternative<ipc::LastWords>(*message)) {
          return keep_words(worker_words_, worker, record);
        }
        if (const auto* reopened = std::get_if<ipc::Reopened>(&*message)) {
          return events_.log_files_taken(worker, reopened->serial);
        }
        events_.worker_message(worker, *message, traceback_of(record));
      },
      [this, worker] { events_.worker_channel_closed(worker); });
}

void ProcessWorld::send(WorkerId worker, const ipc::WorkerCommand& command) {
  const auto it = workers_.find(worker);
  if (it != workers_.end()) it->second->send(ipc::encode(command));
}

void ProcessWorld::give_sockets(WorkerId worker, const std::vector<SocketId>& sockets) {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return;
  ipc::Listen listen;
  std::vector<int> descriptors;
  for (const SocketId id : sockets) {
    listen.entries.push_back({id, listeners_.address(id), listeners_.shared(id)});
    descriptors.push_back(listeners_.fd(id));
  }
  it->second->send(ipc::encode(ipc::WorkerCommand{listen}), descriptors);
}

void ProcessWorld::release_worker(WorkerId worker) {
  stacks_.close(worker);
  workers_.erase(worker);
  worker_words_.erase(worker);
}

std::string ProcessWorld::last_words_of_mold(MoldId mold) {
  return words_of(mold_words_, mold);
}

std::string ProcessWorld::last_words_of_worker(WorkerId worker) {
  return words_of(worker_words_, worker);
}

void ProcessWorld::kill(pid_t pid, int signal) {
  if (pid > 0) ::kill(pid, signal);
}

int ProcessWorld::take_record() {
  if (free_records_.empty()) return -1;
  const int record = free_records_.back();
  free_records_.pop_back();
  scoreboard_.clear(record);
  totals_.open(record);
  return record;
}

void ProcessWorld::return_record(int record) {
  if (record < 0) return;
  totals_.close(record, ipc::monotonic_ns());
  free_records_.push_back(record);
}

std::uint64_t ProcessWorld::requests_of(int record) {
  return ipc::requests(scoreboard_.record(record));
}

LoopSight ProcessWorld::loop_of(int record) {
  const std::uint64_t now = ipc::monotonic_ns();
  const ipc::WorkerRecord& numbers = scoreboard_.record(record);
  std::uint64_t run = numbers.running_since_ns.load(std::memory_order_relaxed);
  if (run == 0) run = numbers.beat_ns.load(std::memory_order_relaxed);
  const std::uint64_t age = ipc::present_run_ns(numbers, now);
  if (run == 0 || age == 0) return {};
  return {run, std::chrono::milliseconds(age / 1'000'000)};
}

void ProcessWorld::take_stack(WorkerId worker, pid_t pid,
                              std::function<void(const Result<std::string>&)> done) {
  stacks_.take(worker, pid, [done = std::move(done)](const Result<Stacks::Stack>& stack) {
    if (!stack) return done(stack.error());
    done(stack->note.empty() ? stack->text : "note: " + stack->note + "\n" + stack->text);
  });
}

std::uint64_t ProcessWorld::resident_bytes_of(pid_t pid) {
  return resident_bytes(pid).value_or(0);
}

int ProcessWorld::workers_that_fit(pid_t mold) {
  return automatic_workers(kMostWorkers, memory_limit(), unique_bytes(mold).value_or(0));
}

std::uint64_t ProcessWorld::random(std::uint64_t most) {
  return std::uniform_int_distribution<std::uint64_t>(0, most)(random_);
}

std::int64_t ProcessWorld::oom_kills() {
  return mgr::oom_kills().value_or(-1);
}

std::string ProcessWorld::core_of(pid_t pid, const std::string& directory) {
  return where_core_went(pid, directory);
}

void ProcessWorld::leave(int exit_status) {
  events_.leave(exit_status);
}

}  // namespace mgr::manager
