#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/loop/event_loop.h"
#include "common/server/exchange.h"
#include "worker/life/worker.h"
#include "worker/python/gil_load.h"
#include "worker/python/py.h"
#include "worker/python/wsgi_call.h"
#include "worker/python/wsgi_environ.h"

namespace mgr::python {

// Hosts a WSGI application (PEP 3333). Connections, idle ones too, belong to the loop; a request
// takes a thread when its head, and a short body, are complete, and keeps it to the end of close().
//
// threads = 1: *direct*. The loop's own thread runs the application between two turns of the loop,
// so that nothing is handed over. Where the application must wait (for a long body, or for a client
// that does not read), the loop is turned from there: uv_run is not on the stack, other connections
// are served as far as that needs no Python, and no other request is begun.
//
// threads > 1: a pool. The loop's thread does all of the input and output, and never takes the GIL
// for a request; the pool's threads run the application, and hand body and response over. One mutex
// guards what they share; it is held for moments only, and never while waiting for the GIL. One
// coalesced wake-up tells the loop, and a thread is woken once for what one turn of the loop has
// brought. Threads write no socket themselves: the loop may close it at
// any moment, and the wake-up is needed anyway to begin what comes next on the connection. A thread
// takes the GIL first and then a request, and keeps the GIL for the next one: while one is
// computing, another one's turn comes by the interpreter's switch interval alone. As long as the
// threads that run use all of what the GIL gives (GilLoad) and take one request after the other, no
// more of them are woken, and those that are too many rest.
//
// Owned by the worker's Python object; outlives the server. Threads and this object end with the
// process.
class WsgiHost final : public server::Application, public worker::Host {
 public:
  explicit WsgiHost(const Log& log) : log_(log) {}

  struct Callables {
    Ref application;
    Ref log_exception;  // log_exception(request line, exception)
    Ref sendable;       // sendable(file): (descriptor, position), or None
  };
  // Before the loop turns. `signals_fd` (borrowed) becomes readable when Python has a signal to
  // handle. False with an exception set.
  bool open(worker::Worker& worker, Callables callables, const EnvironBuilder::Fixed& fixed,
            std::size_t threads, int signals_fd);
  // On the loop's thread: serves until the worker is to leave. Null with an exception set.
  PyObject* serve();
  // On thread `number` of the pool: runs requests until stop().
  PyObject* run_requests(std::size_t number);
  void stop();

  // server::Application and worker::Host: without the GIL.
  void on_request(server::Exchange& exchange) noexcept override;
  void on_leave(worker::Leave how) noexcept override;

  // ---- for what runs a request
  const Callables& callables() const { return callables_; }
  EnvironBuilder& environs() { return environs_; }
  void log_exception(const std::string& line, PyObject* exception);
  const Log& log() const { return log_; }

  // ---- for calls
  bool is_direct() const { return threads_.size() == 1; }
  // Of no effect where there is one thread.
  std::unique_lock<std::mutex> lock() const {
    return is_direct() ? std::unique_lock<std::mutex>() : std::unique_lock(mutex_);
  }
  // The call is ready to be run.
  void enqueue(WsgiCall& call);
  // Its thread is to close what the call was lent. With the lock.
  void close_later(WsgiCall& call);
  // The loop is to attend to it. The lock that it is given, where it is given one, is released.
  void attend_later(WsgiCall& call) { attend_later(call, lock()); }
  void attend_later(WsgiCall& call, std::unique_lock<std::mutex> held);
  // A call has news: ends a turn().
  void told();
  // Direct: one turn of the loop on behalf of a call that waits. False with an exception set.
  bool turn();
  // On the loop's thread.
  void give_back(WsgiCall& call);
  // A thread of the pool is busy with a request whose time is over, or no more. With the lock; the
  // first on the loop's thread.
  void count_stuck();
  void uncount_stuck() { --stuck_; }
  // A thread of the pool has done with its request. With the lock.
  void count_idle() { worker_->count_thread(-1); }
  std::vector<server::HeaderField>& scratch_fields() { return scratch_fields_; }

 private:
  struct Thread {
    std::condition_variable wanted;
    std::deque<WsgiCall*> closing;  // whose end it is to call for
    bool waits = false;             // and is in idle_
    bool called = false;            // is the one that waking_ stands for
    bool runs = false;              // is among running_
    GilLoad::Report report;
  };
  enum class Job { none, run, close, drop, stop };

  Job take(std::size_t number, WsgiCall*& call);
  void wait_for_work(std::size_t number);
  void wake_one();
  void wake(std::size_t number);
  bool act(Job job, WsgiCall* call);
  void wake_for_enqueued();
  void wake_if_stalled();
  bool is_crowded(std::uint64_t now_ns);
  bool run_directly();
  void attend_marked();
  void tell_if_stuck();
  bool run_loop();

  const Log& log_;
  Callables callables_;
  EnvironBuilder environs_;
  worker::Worker* worker_ = nullptr;
  std::optional<FdWatcher> signals_;
  std::optional<Wakeup> wakeup_;
  std::optional<TurnWatcher> turns_;
  std::optional<Timer> stuck_check_;
  std::optional<Timer> stall_check_;
  std::optional<worker::Leave> leave_;
  std::vector<server::HeaderField> scratch_fields_;  // the loop's
  std::vector<WsgiCall*> attended_;                  // likewise
  std::vector<WsgiCall*> spare_;                     // likewise
  bool turning_ = false;
  bool enqueued_ = false;  // in this turn of the loop

  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::deque<WsgiCall*> queue_;
  std::vector<std::size_t> idle_;  // the last one is taken first: what it has is in the caches
  std::vector<WsgiCall*> marked_;
  bool waking_ = false;      // a thread has been woken and has not looked yet
  std::size_t running_ = 0;  // threads
  GilLoad load_;
  std::uint64_t last_taken_ns_ = 0;
  std::size_t last_taker_ = 0;
  bool watched_ = false;  // stall_check_ is on its way
  bool stopping_ = false;
  std::size_t stuck_ = 0;  // threads
  bool stuck_told_ = false;
};

}  // namespace mgr::python
