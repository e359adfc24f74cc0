#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <utility>

// The libuv loop and the handles that mgr uses, behind owners (style.md: "libuv handles").
// uv.h is included by event_loop.cc alone (and by the two files that must see a raw loop).

struct uv_loop_s;

namespace mgr {

// Owns a uv_loop_t. Every handle made on it must be gone before it is destroyed: the destructor
// runs the loop out and CHECKs that uv_loop_close() returns 0, so a leaked handle aborts.
// One thread only.
class EventLoop {
 public:
  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Runs until stop() or until nothing is left to wait for.
  void run();
  // One turn that waits for an event; true while active handles remain.
  bool run_once();
  // One turn that does not wait.
  bool run_nowait();
  // Makes run() return after the current turn.
  void stop();

  // Monotonic time as of the start of this turn of the loop; cheap.
  std::chrono::milliseconds now() const;
  // Refreshes now() after long work.
  void update_now();

  uv_loop_s* raw() const { return loop_.get(); }
  // The epoll descriptor of the loop.
  int backend_fd() const;

 private:
  std::unique_ptr<uv_loop_s> loop_;
};

namespace detail {
struct HandleBlock;
// Closes the handle; its block is freed by the close callback.
struct HandleCloser {
  void operator()(HandleBlock* block) const noexcept;
};
using HandlePtr = std::unique_ptr<HandleBlock, HandleCloser>;
}  // namespace detail

// A one-shot or repeating timer. Destroying it stops it; its callback is not called any more.
class Timer {
 public:
  Timer(EventLoop& loop, std::function<void()> callback);
  ~Timer();
  Timer(Timer&&) noexcept;
  Timer& operator=(Timer&&) noexcept;

  // (Re)arms: fires after `delay`, once.
  void start(std::chrono::milliseconds delay);
  void start_repeating(std::chrono::milliseconds period);
  void stop();
  bool active() const;
  // An unreferenced timer does not keep run() alive.
  void unref();

 private:
  detail::HandlePtr handle_;
};

// Readiness of a descriptor that somebody else owns (uv_poll). The descriptor must stay open until
// the watcher is destroyed or stopped.
class FdWatcher {
 public:
  // kErrors alone: nothing but errors and hang-up (reported as kErrors, or with a status below 0).
  enum Events : int { kReadable = 1, kWritable = 2, kDisconnect = 4, kErrors = 8 };
  // `callback(status, events)`: status 0 or a negative libuv error.
  FdWatcher(EventLoop& loop, int fd, std::function<void(int status, int events)> callback);
  ~FdWatcher();
  FdWatcher(FdWatcher&&) noexcept;
  FdWatcher& operator=(FdWatcher&&) noexcept;

  void start(int events);
  void stop();
  void unref();

 private:
  detail::HandlePtr handle_;
};

// Wakes the loop from another thread or a signal handler (uv_async).
class Wakeup {
 public:
  Wakeup(EventLoop& loop, std::function<void()> callback);
  ~Wakeup();
  Wakeup(Wakeup&&) noexcept;
  Wakeup& operator=(Wakeup&&) noexcept;

  void send();
  void unref();

 private:
  detail::HandlePtr handle_;
};

// Delivers one signal number inside the loop (uv_signal).
class SignalWatcher {
 public:
  SignalWatcher(EventLoop& loop, int signal, std::function<void()> callback);
  ~SignalWatcher();
  SignalWatcher(SignalWatcher&&) noexcept;
  SignalWatcher& operator=(SignalWatcher&&) noexcept;

  void unref();

 private:
  detail::HandlePtr handle_;
};

// Calls back before each wait of the loop (uv_prepare) and after it (uv_check); unreferenced.
class TurnWatcher {
 public:
  TurnWatcher(EventLoop& loop, std::function<void()> before_wait, std::function<void()> after_wait);
  ~TurnWatcher();

 private:
  detail::HandlePtr prepare_;
  detail::HandlePtr check_;
};

// Calls back before each wait of the loop, and after it before anything else runs: the first
// callback of a descriptor, which libuv makes from inside its wait, or else the end of that.
// At most one for each loop.
class WaitWatcher {
 public:
  WaitWatcher(EventLoop& loop, std::function<void()> before_wait, std::function<void()> after_wait);
  ~WaitWatcher();
  WaitWatcher(const WaitWatcher&) = delete;

 private:
  friend class FdWatcher;
  void woke() {
    if (!std::exchange(waiting_, false)) return;
    after_wait_();
  }

  EventLoop& loop_;
  std::function<void()> after_wait_;
  bool waiting_ = false;
  TurnWatcher turns_;
};

}  // namespace mgr
