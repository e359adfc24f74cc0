#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/loop/event_loop.h"
#include "common/server/exchange.h"
#include "worker/life/worker.h"
#include "worker/native/request.h"
#include "worker/native/thread_pool.h"

namespace mgr::native {

// Brings what the server does to a C++ application. Callbacks of the loop only note what has come;
// dispatch() acts on it between two turns, so that the application never runs inside uv_run.
// Owned by the worker's process; outlives the server and the calls.
class Dispatcher final : public server::Application, public worker::Host {
 public:
  Dispatcher(std::string root_path, const Log& log);
  ~Dispatcher();
  Dispatcher(const Dispatcher&) = delete;

  // Before the loop turns.
  void attach(worker::Worker& worker);
  // Opens the application in this process. False: it could not.
  bool open(const mgr_application_table& application);

  // server::Application and worker::Host: inside of the loop's turn.
  void on_request(server::Exchange& exchange) noexcept override;
  void on_leave(worker::Leave how) noexcept override;

  // One turn of the loop, at most `timeout` long (nullopt: until something comes), and what came.
  void turn(std::optional<std::chrono::milliseconds> timeout);
  // How to leave, once it has been said.
  std::optional<worker::Leave> leave() const { return leave_; }
  // Ends every request where it stands.
  void cancel_requests();
  // Waits so long for jobs that still run. False: some run on, and the process cannot end in order.
  bool close(std::chrono::milliseconds patience);

  // For the calls.
  void start(Call& call) { application_->call(instance_, &call); }
  void wake(Call& call) { application_->wake(instance_, &call); }
  void cancel(Call& call) { application_->cancel(instance_, &call); }
  void mark(Request& request) noexcept;
  void give_back(Request& request) noexcept;
  const Log& log() const { return log_; }
  std::vector<server::HeaderField>& scratch_headers() { return scratch_headers_; }

  // For the library.
  void set_timer(std::int64_t nanoseconds);
  ThreadPool& pool() { return *pool_; }

 private:
  void dispatch();
  void start_batch();
  Request& take();

  const std::string root_path_;
  const Log& log_;
  worker::Worker* worker_ = nullptr;
  const mgr_application_table* application_ = nullptr;
  void* instance_ = nullptr;
  std::optional<ThreadPool> pool_;
  std::optional<Timer> timer_;
  bool timer_due_ = false;
  bool jobs_done_ = false;
  std::optional<worker::Leave> leave_;

  std::vector<server::Exchange*> fresh_;
  std::vector<Request*> woken_;
  std::vector<Request*> running_;
  std::vector<std::unique_ptr<Request>> requests_;  // all of them
  std::vector<Request*> free_;
  std::vector<server::HeaderField> scratch_headers_;
};

}  // namespace mgr::native
