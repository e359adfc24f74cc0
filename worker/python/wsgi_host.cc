#include "worker/python/wsgi_host.h"

#include <pthread.h>
#include <sys/socket.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "worker/python/forked.h"
#include "worker/python/wsgi_run.h"

namespace mgr::python {
namespace {

constexpr std::size_t kMostSpare = 256;
// How long all threads must be busy with requests whose time is over before that is told.
constexpr std::chrono::milliseconds kStuckFor{1000};
// How long the queue of a crowded pool may stand still before another thread is woken: Python's own
// switch interval.
constexpr std::chrono::milliseconds kPatience{5};
constexpr std::uint64_t kPatienceNs = std::uint64_t{kPatience.count()} * 1'000'000;

std::uint64_t computed_by_this_thread_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(time.tv_nsec);
}

void drain_socket(int fd) {
  char buffer[64];
  while (::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0) {
  }
}

}  // namespace

bool WsgiHost::open(worker::Worker& worker, Callables callables, const EnvironBuilder::Fixed& fixed,
                    std::size_t threads, int signals_fd) {
  worker_ = &worker;
  callables_ = std::move(callables);
  for (std::size_t i = 0; i < threads; ++i) threads_.push_back(std::make_unique<Thread>());
  if (!is_direct()) worker.have_threads(threads);
  signals_.emplace(worker.loop(), signals_fd, [this, signals_fd](int, int) {
    drain_socket(signals_fd);
    worker_->wake();
  });
  signals_->start(FdWatcher::kReadable);
  wakeup_.emplace(worker.loop(), [this] { attend_marked(); });
  turns_.emplace(
      worker.loop(), [this] { wake_for_enqueued(); }, [this] { wake_for_enqueued(); });
  stuck_check_.emplace(worker.loop(), [this] { tell_if_stuck(); });
  stall_check_.emplace(worker.loop(), [this] { wake_if_stalled(); });
  return environs_.open(fixed);
}

void WsgiHost::log_exception(const std::string& line, PyObject* exception) {
  Ref text = string(line);
  Ref done = text && exception
                 ? Ref::take(PyObject_CallFunctionObjArgs(callables_.log_exception.get(),
                                                          text.get(), exception, nullptr))
                 : Ref();
  if (done) return;
  PyErr_Clear();
  log_.error("{}: the application failed, and its exception could not be printed", line);
}

// ---- the loop's side

void WsgiHost::on_request(server::Exchange& exchange) noexcept {
  WsgiCall* call;
  if (spare_.empty()) {
    call = new WsgiCall(*this);
  } else {
    call = spare_.back();
    spare_.pop_back();
  }
  call->hold();
  call->begin(exchange);
}

void WsgiHost::on_leave(worker::Leave how) noexcept {
  leave_ = how;
}

void WsgiHost::enqueue(WsgiCall& call) {
  {
    const auto held = lock();
    queue_.push_back(&call);
  }
  if (is_direct()) {
    worker_->wake();
  } else {
    enqueued_ = true;
  }
}

void WsgiHost::wake_for_enqueued() {
  if (!std::exchange(enqueued_, false)) return;
  const auto held = lock();
  if (queue_.empty()) return;
  if (!is_crowded(ipc::monotonic_ns())) return wake_one();
  if (!std::exchange(watched_, true)) stall_check_->start(kPatience);
}

void WsgiHost::wake_if_stalled() {
  const auto held = lock();
  watched_ = !queue_.empty();
  if (!watched_) return;
  if (!is_crowded(ipc::monotonic_ns())) wake_one();
  stall_check_->start(kPatience);
}

// With the lock. The threads that run are as many as are of use.
bool WsgiHost::is_crowded(std::uint64_t now_ns) {
  return running_ > 0 && load_.is_full(now_ns) && now_ns - last_taken_ns_ < kPatienceNs;
}

void WsgiHost::close_later(WsgiCall& call) {
  threads_[call.thread_]->closing.push_back(&call);
  if (is_direct()) {
    worker_->wake();
  } else if (threads_[call.thread_]->waits) {
    wake(call.thread_);
  }
}

void WsgiHost::attend_later(WsgiCall& call, std::unique_lock<std::mutex> held) {
  if (std::exchange(call.marked_, true)) return;
  call.hold();
  marked_.push_back(&call);
  if (marked_.size() > 1) return;
  held = {};
  if (is_direct()) {
    worker_->wake();
  } else {
    wakeup_->send();
  }
}

void WsgiHost::attend_marked() {
  {
    const auto held = lock();
    attended_.swap(marked_);
    for (WsgiCall* call : attended_) call->marked_ = false;
  }
  for (WsgiCall* call : attended_) {
    call->attend();
    call->drop(WsgiCall::By::loop);
  }
  attended_.clear();
}

void WsgiHost::told() {
  if (turning_) worker_->wake();
}

void WsgiHost::give_back(WsgiCall& call) {
  if (spare_.size() < kMostSpare) {
    spare_.push_back(&call);
  } else {
    delete &call;
  }
}

// Those that wait for their client leave at once now; the others are looked at once more.
void WsgiHost::count_stuck() {
  if (++stuck_ == threads_.size()) stuck_check_->start(kStuckFor);
}

void WsgiHost::tell_if_stuck() {
  {
    const auto held = lock();
    if (stuck_ < threads_.size() || std::exchange(stuck_told_, true)) return;
  }
  worker_->stuck(static_cast<int>(threads_.size()));
}

// ---- the loop's thread

bool WsgiHost::turn() {
  turning_ = true;
  const bool ok = run_loop();
  turning_ = false;
  return ok;
}

bool WsgiHost::run_loop() {
  end_if_forked();
  Py_BEGIN_ALLOW_THREADS;
  worker_->run(std::nullopt);
  Py_END_ALLOW_THREADS;
  const bool ok = PyErr_CheckSignals() == 0;
  end_if_forked();
  return ok;
}

PyObject* WsgiHost::serve() {
  while (!leave_) {
    if (is_direct() && !run_directly()) return nullptr;
    if (leave_) break;
    if (!run_loop()) return nullptr;
  }
  if (is_direct() && !run_directly()) return nullptr;  // what was cut is closed
  return PyUnicode_FromString(worker::name(*leave_));
}

bool WsgiHost::run_directly() {
  if (!marked_.empty()) attend_marked();
  // What comes meanwhile has the loop's next turn before it.
  for (std::size_t left = queue_.size() + threads_[0]->closing.size(); left > 0; --left) {
    WsgiCall* call = nullptr;
    const Job job = take(0, call);
    if (!act(job, call)) return true;
  }
  if (!queue_.empty() || !marked_.empty() || !threads_[0]->closing.empty()) worker_->wake();
  return true;
}

// ---- the pool

// With the lock.
void WsgiHost::wake(std::size_t number) {
  Thread& thread = *threads_[number];
  std::erase(idle_, number);
  thread.waits = false;
  thread.wanted.notify_one();
}

// With the lock. At most one thread is on its way: it wakes the next if there is more to do.
void WsgiHost::wake_one() {
  if (waking_ || idle_.empty()) return;
  const std::size_t number = idle_.back();
  waking_ = threads_[number]->called = true;
  wake(number);
}

WsgiHost::Job WsgiHost::take(std::size_t number, WsgiCall*& call) {
  const auto held = lock();
  Thread& thread = *threads_[number];
  if (std::exchange(thread.called, false)) waking_ = false;
  if (std::exchange(thread.runs, false)) --running_;
  if (!thread.closing.empty()) {
    call = thread.closing.front();
    thread.closing.pop_front();
    return Job::close;
  }
  if (stopping_) return Job::stop;
  const std::uint64_t now = is_direct() ? 0 : ipc::monotonic_ns();
  if (!is_direct() && load_.is_due(thread.report, now)) {
    load_.tell(thread.report, now, computed_by_this_thread_ns());
  }
  // Left to a thread that has taken one just now: the queue is looked after (see wake_if_stalled).
  const bool left = watched_ && last_taker_ != number && is_crowded(now);
  if (queue_.empty() || left) {
    if (!is_direct()) {
      thread.waits = true;
      idle_.push_back(number);
    }
    return Job::none;
  }
  call = queue_.front();
  queue_.pop_front();
  call->thread_ = number;
  if (is_direct()) return call->lost_ ? Job::drop : Job::run;
  call->running_ = true;
  worker_->count_thread(1);
  thread.runs = true;
  ++running_;
  last_taken_ns_ = now;
  last_taker_ = number;
  if (!queue_.empty() && !(watched_ && is_crowded(now))) wake_one();
  return call->lost_ ? Job::drop : Job::run;
}

void WsgiHost::wait_for_work(std::size_t number) {
  Thread& thread = *threads_[number];
  Py_BEGIN_ALLOW_THREADS;
  {
    auto held = lock();
    thread.wanted.wait(held, [&] { return !thread.waits; });
  }
  Py_END_ALLOW_THREADS;
}

PyObject* WsgiHost::run_requests(std::size_t number) {
  if (number >= threads_.size()) {
    PyErr_SetString(PyExc_ValueError, "no such thread");
    return nullptr;
  }
  pthread_setname_np(pthread_self(), ("mgr wsgi " + std::to_string(number)).c_str());
  for (;;) {
    WsgiCall* call = nullptr;
    const Job job = take(number, call);
    if (job == Job::stop) return none();
    if (!act(job, call)) wait_for_work(number);
  }
}

// False: there was nothing to do.
bool WsgiHost::act(Job job, WsgiCall* call) {
  switch (job) {
    case Job::run:
      run_call(*this, *call);
      return true;
    case Job::close:
      close_lent(*this, *call);
      return true;
    case Job::drop:  // nobody waits for the answer any more
      call->finish();
      return true;
    case Job::none:
    case Job::stop:
      break;
  }
  return false;
}

void WsgiHost::stop() {
  const auto held = lock();
  stopping_ = true;
  while (!idle_.empty()) wake(idle_.back());
}

}  // namespace mgr::python
