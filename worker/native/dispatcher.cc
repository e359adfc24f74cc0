#include "worker/native/dispatcher.h"

#include <utility>

#include "common/base/check.h"
#include "worker/native/host_table.h"

namespace mgr::native {
namespace {

constexpr std::size_t kMostThreads = 8;  // as <mgr/offload.h> says

}  // namespace

Dispatcher::Dispatcher(std::string root_path, const Log& log)
    : root_path_(std::move(root_path)), log_(log) {}

Dispatcher::~Dispatcher() {
  CHECK(running_.empty());
}

void Dispatcher::attach(worker::Worker& worker) {
  worker_ = &worker;
  timer_.emplace(worker.loop(), [this] {
    timer_due_ = true;
    worker_->wake();
  });
  pool_.emplace(worker.loop(), kMostThreads, [this] {
    jobs_done_ = true;
    worker_->wake();
  });
}

bool Dispatcher::open(const mgr_application_table& application) {
  application_ = &application;
  instance_ = application.open(&host_table(), this);
  return instance_ != nullptr;
}

void Dispatcher::on_request(server::Exchange& exchange) noexcept {
  fresh_.push_back(&exchange);
  worker_->wake();
}

void Dispatcher::on_leave(worker::Leave how) noexcept {
  leave_ = how;
}

void Dispatcher::mark(Request& request) noexcept {
  if (!std::exchange(request.marked_, true)) woken_.push_back(&request);
  worker_->wake();
}

void Dispatcher::turn(std::optional<std::chrono::milliseconds> timeout) {
  if (!fresh_.empty() || !woken_.empty()) timeout = std::chrono::milliseconds(0);
  worker_->run(timeout);
  dispatch();
}

void Dispatcher::dispatch() {
  while (!woken_.empty()) {
    Request* request = woken_.back();
    woken_.pop_back();
    request->marked_ = false;
    if (request->timed_out_) {
      cancel(*request);
      request->cut();
    } else {
      wake(*request);
    }
  }
  if (std::exchange(timer_due_, false)) application_->run_timers(instance_);
  if (std::exchange(jobs_done_, false)) {
    while (mgr_job* job = pool_->take_done()) job->done(job);
  }
  start_batch();
}

// What a response completes may bring the next request of its connection at once: that is for the
// next turn.
void Dispatcher::start_batch() {
  const std::size_t count = fresh_.size();
  for (std::size_t i = 0; i < count; ++i) {
    Request& request = take();
    request.index_ = running_.size();
    running_.push_back(&request);
    request.begin(*fresh_[i]);
    start(request);
  }
  fresh_.erase(fresh_.begin(), fresh_.begin() + static_cast<std::ptrdiff_t>(count));
}

Request& Dispatcher::take() {
  if (free_.empty()) {
    requests_.push_back(std::make_unique<Request>(*this, root_path_));
    free_.reserve(requests_.size());
    return *requests_.back();
  }
  Request* request = free_.back();
  free_.pop_back();
  return *request;
}

void Dispatcher::give_back(Request& request) noexcept {
  if (std::exchange(request.marked_, false)) std::erase(woken_, &request);
  Request* last = running_.back();
  running_.pop_back();
  if (last != &request) {
    running_[request.index_] = last;
    last->index_ = request.index_;
  }
  free_.push_back(&request);
}

void Dispatcher::cancel_requests() {
  while (!running_.empty()) {
    Request* request = running_.back();
    cancel(*request);
    request->cut();
  }
  for (server::Exchange* exchange : std::exchange(fresh_, {})) exchange->release();
}

void Dispatcher::set_timer(std::int64_t nanoseconds) {
  if (nanoseconds < 0) return timer_->stop();
  worker_->loop().update_now();
  timer_->start(
      std::chrono::ceil<std::chrono::milliseconds>(std::chrono::nanoseconds(nanoseconds)));
}

bool Dispatcher::close(std::chrono::milliseconds patience) {
  if (!pool_->stop(patience)) return false;
  // What abandoned calls have left; nobody waits for it.
  while (mgr_job* job = pool_->take_done()) job->done(job);
  if (instance_) application_->close(std::exchange(instance_, nullptr));
  pool_.reset();
  timer_.reset();
  return true;
}

}  // namespace mgr::native
