#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "common/loop/event_loop.h"
#include "worker/sdk/include/mgr/abi.h"

namespace mgr::native {

// Runs the application's jobs on at most `most` threads, which are made when a job finds none idle.
// Its functions are for the loop's thread. The jobs are the application's and must stay until they
// are done; the pool keeps lists through them and allocates nothing for one.
class ThreadPool {
 public:
  // `on_done` is called from a turn of the loop when take_done() has something.
  ThreadPool(EventLoop& loop, std::size_t most, std::function<void()> on_done);
  // No thread may run any more: after stop().
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;

  void submit(mgr_job& job);
  // True: it had not begun, and is the application's again. False: done() will be due.
  bool withdraw(mgr_job& job);
  // The next job that has run, in order; null: none.
  mgr_job* take_done();

  // Forgets the jobs that have not begun, and waits for those that run. False: some still run.
  bool stop(std::chrono::milliseconds patience);
  // Jobs that run now.
  std::size_t running() const;

 private:
  // Linked through the jobs.
  class List {
   public:
    bool empty() const { return !first_; }
    void push(mgr_job& job);
    void remove(mgr_job& job);
    mgr_job* pop();
    bool contains(const mgr_job& job) const;

   private:
    mgr_job* first_ = nullptr;
    mgr_job* last_ = nullptr;
  };

  bool add_thread();
  void work();

  const std::size_t most_;
  std::optional<Wakeup> wakeup_;
  std::vector<std::thread> threads_;
  mutable std::mutex mutex_;
  std::condition_variable wanted_;  // a job is queued, or the end has come
  std::condition_variable ended_;   // a job has run
  List queued_;
  List done_;
  std::size_t idle_ = 0;
  std::size_t running_ = 0;
  bool stopping_ = false;
};

}  // namespace mgr::native
