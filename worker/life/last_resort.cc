#include "worker/life/last_resort.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/base/check.h"

namespace mgr::worker {
namespace {

// A signal handler has no other way to its data.
volatile sig_atomic_t parent_watch_armed = 0;
timer_t parent_watch_timer;
itimerspec parent_watch_delay;

// Far from the numbers that libraries take from the lower end.
int parent_died_signal() {
  return SIGRTMAX - 3;
}

itimerspec to_spec(std::chrono::milliseconds delay) {
  itimerspec spec{};
  const auto ms = delay.count() < 1 ? 1 : delay.count();
  spec.it_value.tv_sec = ms / 1000;
  spec.it_value.tv_nsec = (ms % 1000) * 1'000'000;
  return spec;
}

void on_parent_died(int) {
  if (!parent_watch_armed) return;
  const int saved = errno;
  timer_settime(parent_watch_timer, 0, &parent_watch_delay, nullptr);
  errno = saved;
}

}  // namespace

Result<LastResort> LastResort::create(pid_t supervisor, std::chrono::milliseconds after_parent) {
  CHECK(!parent_watch_armed);
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGKILL;
  timer_t timer;
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return Error::from_errno("timer_create");
  parent_watch_timer = timer;
  parent_watch_delay = to_spec(after_parent);
  parent_watch_armed = 1;

  struct sigaction action {};
  action.sa_handler = on_parent_died;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(parent_died_signal(), &action, nullptr);
  prctl(PR_SET_PDEATHSIG, parent_died_signal());
  return LastResort(timer, getppid() != supervisor);
}

LastResort::LastResort(LastResort&& other) noexcept
    : timer_(other.timer_),
      owned_(std::exchange(other.owned_, false)),
      orphaned_(other.orphaned_) {}

LastResort::~LastResort() {
  if (!owned_) return;
  prctl(PR_SET_PDEATHSIG, 0);
  parent_watch_armed = 0;
  timer_delete(timer_);
}

void LastResort::arm(std::chrono::milliseconds delay) {
  const itimerspec spec = to_spec(delay);
  CHECK(timer_settime(timer_, 0, &spec, nullptr) == 0);
}

}  // namespace mgr::worker
