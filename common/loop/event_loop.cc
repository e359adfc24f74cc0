#include "common/loop/event_loop.h"

#include <uv.h>

#include <utility>

#include "common/base/check.h"

namespace mgr {

namespace detail {

// The heap block of one handle: freed by its close callback alone.
struct HandleBlock {
  union {
    uv_handle_t handle;
    uv_timer_t timer;
    uv_poll_t poll;
    uv_async_t async;
    uv_signal_t signal;
    uv_prepare_t prepare;
    uv_check_t check;
  };
  std::function<void()> callback;
  std::function<void(int, int)> poll_callback;
};

void HandleCloser::operator()(HandleBlock* block) const noexcept {
  block->handle.data = nullptr;
  uv_close(&block->handle, [](uv_handle_t* handle) {
    delete reinterpret_cast<HandleBlock*>(handle);  // the union is the first member
  });
}

namespace {

template <typename Init>
HandlePtr make_handle(Init init) {
  auto block = std::make_unique<HandleBlock>();
  CHECK(init(block.get()) == 0);
  block->handle.data = block.get();
  return HandlePtr(block.release());
}

// The callback may destroy its own handle: the block stays until the close callback.
template <typename Handle>
void call(Handle* handle) noexcept {
  auto* block = static_cast<HandleBlock*>(handle->data);
  if (block) block->callback();
}

}  // namespace
}  // namespace detail

using detail::HandleBlock;
using detail::make_handle;

EventLoop::EventLoop() : loop_(std::make_unique<uv_loop_s>()) {
  CHECK(uv_loop_init(loop_.get()) == 0);
  loop_->data = nullptr;
}

EventLoop::~EventLoop() {
  while (uv_run(loop_.get(), UV_RUN_NOWAIT) != 0) {
    if (uv_loop_alive(loop_.get()) && uv_backend_timeout(loop_.get()) != 0) break;
  }
  CHECK(uv_loop_close(loop_.get()) == 0);
}

void EventLoop::run() {
  uv_run(loop_.get(), UV_RUN_DEFAULT);
}
bool EventLoop::run_once() {
  return uv_run(loop_.get(), UV_RUN_ONCE) != 0;
}
bool EventLoop::run_nowait() {
  return uv_run(loop_.get(), UV_RUN_NOWAIT) != 0;
}
void EventLoop::stop() {
  uv_stop(loop_.get());
}
std::chrono::milliseconds EventLoop::now() const {
  return std::chrono::milliseconds(uv_now(loop_.get()));
}
void EventLoop::update_now() {
  uv_update_time(loop_.get());
}
int EventLoop::backend_fd() const {
  return uv_backend_fd(loop_.get());
}

Timer::Timer(EventLoop& loop, std::function<void()> callback)
    : handle_(make_handle([&](HandleBlock* b) { return uv_timer_init(loop.raw(), &b->timer); })) {
  handle_->callback = std::move(callback);
}
Timer::~Timer() = default;
Timer::Timer(Timer&&) noexcept = default;
Timer& Timer::operator=(Timer&&) noexcept = default;

void Timer::start(std::chrono::milliseconds delay) {
  const auto ms = static_cast<uint64_t>(delay.count() < 0 ? 0 : delay.count());
  CHECK(uv_timer_start(
            &handle_->timer, [](uv_timer_t* t) { detail::call(t); }, ms, 0) == 0);
}
void Timer::start_repeating(std::chrono::milliseconds period) {
  const auto ms = static_cast<uint64_t>(period.count());
  CHECK(uv_timer_start(
            &handle_->timer, [](uv_timer_t* t) { detail::call(t); }, ms, ms) == 0);
}
void Timer::stop() {
  uv_timer_stop(&handle_->timer);
}
bool Timer::active() const {
  return uv_is_active(&handle_->handle) != 0;
}
void Timer::unref() {
  uv_unref(&handle_->handle);
}

FdWatcher::FdWatcher(EventLoop& loop, int fd, std::function<void(int, int)> callback)
    : handle_(make_handle([&](HandleBlock* b) { return uv_poll_init(loop.raw(), &b->poll, fd); })) {
  handle_->poll_callback = std::move(callback);
}
FdWatcher::~FdWatcher() = default;
FdWatcher::FdWatcher(FdWatcher&&) noexcept = default;
FdWatcher& FdWatcher::operator=(FdWatcher&&) noexcept = default;

void FdWatcher::start(int events) {
  const auto on_event = [](uv_poll_t* poll, int status, int ready) {
    auto* block = static_cast<HandleBlock*>(poll->data);
    if (!block) return;
    if (auto* waits = static_cast<WaitWatcher*>(poll->loop->data)) waits->woke();
    block->poll_callback(status, ready);
  };
  CHECK(uv_poll_start(&handle_->poll, events, on_event) == 0);
}
void FdWatcher::stop() {
  uv_poll_stop(&handle_->poll);
}
void FdWatcher::unref() {
  uv_unref(&handle_->handle);
}

Wakeup::Wakeup(EventLoop& loop, std::function<void()> callback)
    : handle_(make_handle([&](HandleBlock* b) {
        return uv_async_init(loop.raw(), &b->async, [](uv_async_t* a) { detail::call(a); });
      })) {
  handle_->callback = std::move(callback);
}
Wakeup::~Wakeup() = default;
Wakeup::Wakeup(Wakeup&&) noexcept = default;
Wakeup& Wakeup::operator=(Wakeup&&) noexcept = default;

void Wakeup::send() {
  uv_async_send(&handle_->async);
}
void Wakeup::unref() {
  uv_unref(&handle_->handle);
}

SignalWatcher::SignalWatcher(EventLoop& loop, int signal, std::function<void()> callback)
    : handle_(make_handle([&](HandleBlock* b) { return uv_signal_init(loop.raw(), &b->signal); })) {
  handle_->callback = std::move(callback);
  const auto on_signal = [](uv_signal_t* s, int) { detail::call(s); };
  CHECK(uv_signal_start(&handle_->signal, on_signal, signal) == 0);
}
SignalWatcher::~SignalWatcher() = default;
SignalWatcher::SignalWatcher(SignalWatcher&&) noexcept = default;
SignalWatcher& SignalWatcher::operator=(SignalWatcher&&) noexcept = default;
void SignalWatcher::unref() {
  uv_unref(&handle_->handle);
}

TurnWatcher::TurnWatcher(EventLoop& loop, std::function<void()> before_wait,
                         std::function<void()> after_wait)
    : prepare_(
          make_handle([&](HandleBlock* b) { return uv_prepare_init(loop.raw(), &b->prepare); })),
      check_(make_handle([&](HandleBlock* b) { return uv_check_init(loop.raw(), &b->check); })) {
  prepare_->callback = std::move(before_wait);
  check_->callback = std::move(after_wait);
  uv_prepare_start(&prepare_->prepare, [](uv_prepare_t* p) { detail::call(p); });
  uv_check_start(&check_->check, [](uv_check_t* c) { detail::call(c); });
  uv_unref(&prepare_->handle);
  uv_unref(&check_->handle);
}
TurnWatcher::~TurnWatcher() = default;

WaitWatcher::WaitWatcher(EventLoop& loop, std::function<void()> before_wait,
                         std::function<void()> after_wait)
    : loop_(loop),
      after_wait_(std::move(after_wait)),
      turns_(
          loop,
          [this, before = std::move(before_wait)] {
            waiting_ = true;
            before();
          },
          [this] { woke(); }) {
  CHECK(!loop.raw()->data);
  loop.raw()->data = this;
}
WaitWatcher::~WaitWatcher() {
  loop_.raw()->data = nullptr;
}

}  // namespace mgr
