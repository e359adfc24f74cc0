#include "worker/native/thread_pool.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>

#include "common/base/check.h"
#include "common/ipc/stacks.h"

namespace mgr::native {
namespace {

// Signals are for the loop's thread.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, ipc::stack_signal());  // which is sent to each thread by itself
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

void ThreadPool::List::push(mgr_job& job) {
  job.next = nullptr;
  job.previous = last_;
  (last_ ? last_->next : first_) = &job;
  last_ = &job;
}

void ThreadPool::List::remove(mgr_job& job) {
  (job.previous ? job.previous->next : first_) = job.next;
  (job.next ? job.next->previous : last_) = job.previous;
  job.next = job.previous = nullptr;
}

mgr_job* ThreadPool::List::pop() {
  mgr_job* job = first_;
  if (job) remove(*job);
  return job;
}

bool ThreadPool::List::contains(const mgr_job& job) const {
  for (const mgr_job* each = first_; each; each = each->next) {
    if (each == &job) return true;
  }
  return false;
}

ThreadPool::ThreadPool(EventLoop& loop, std::size_t most, std::function<void()> on_done)
    : most_(most), wakeup_(std::in_place, loop, std::move(on_done)) {}

ThreadPool::~ThreadPool() {
  CHECK(running_ == 0);
}

void ThreadPool::submit(mgr_job& job) {
  bool lacks_thread;
  {
    const std::lock_guard lock(mutex_);
    queued_.push(job);
    lacks_thread = idle_ == 0 && threads_.size() < most_;
    if (!lacks_thread) wanted_.notify_one();
  }
  if (!lacks_thread || add_thread() || !threads_.empty()) return;
  // The system allows no thread at all: late is better than never.
  if (!withdraw(job)) return;
  job.run(&job);
  const std::lock_guard lock(mutex_);
  done_.push(job);
  wakeup_->send();
}

bool ThreadPool::add_thread() {
  const SignalsBlocked blocked;
  try {
    threads_.emplace_back([this] { work(); });
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

void ThreadPool::work() {
  pthread_setname_np(pthread_self(), "mgr offload");
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    wanted_.wait(lock, [this] { return stopping_ || !queued_.empty(); });
    --idle_;
    if (stopping_) return;
    mgr_job* job = queued_.pop();
    ++running_;
    lock.unlock();
    job->run(job);
    lock.lock();
    --running_;
    done_.push(*job);
    ended_.notify_all();
    wakeup_->send();
  }
}

bool ThreadPool::withdraw(mgr_job& job) {
  const std::lock_guard lock(mutex_);
  if (!queued_.contains(job)) return false;
  queued_.remove(job);
  return true;
}

mgr_job* ThreadPool::take_done() {
  const std::lock_guard lock(mutex_);
  return done_.pop();
}

std::size_t ThreadPool::running() const {
  const std::lock_guard lock(mutex_);
  return running_;
}

bool ThreadPool::stop(std::chrono::milliseconds patience) {
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    queued_ = List();
    wanted_.notify_all();
    if (!ended_.wait_for(lock, patience, [this] { return running_ == 0; })) return false;
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return true;
}

}  // namespace mgr::native
