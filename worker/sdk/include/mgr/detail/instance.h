#pragma once

#include <chrono>

#include <mgr/abi.h>
#include <mgr/detail/call.h>
#include <mgr/receive_send.h>

namespace mgr::app::detail {

// The functions of mgr_application_table.

inline Instance& instance_of(void* application) {
  return *static_cast<Instance*>(application);
}

inline void call(void* application, mgr_call* call) noexcept {
  Call* made = nullptr;
  try {
    made = new Call(instance_of(application), *call);
  } catch (...) {
    const Raised raised = describe_current_exception();
    instance_of(application)
        .host.finished(call, raised.outcome, text_of(raised.type), text_of(raised.what));
    return;
  }
  Call::start(made);
}

inline void wake(void*, mgr_call* call) noexcept {
  Call::wake(static_cast<Call*>(call->task));
}

inline void cancel(void*, mgr_call* call) noexcept {
  delete static_cast<Call*>(call->task);
}

// Whoever goes to sleep again meanwhile waits for the next time, so that sleep(0s) lets others run.
inline void run_timers(void* application) noexcept {
  Instance& instance = instance_of(application);
  instance.armed = std::chrono::steady_clock::time_point::max();
  const auto now = std::chrono::steady_clock::now();
  const std::uint64_t order = instance.timers.next_order();
  while (Sleeper* due = instance.timers.take_due(now, order)) {
    due->awake = true;
    Call::resume(due->call, due->coroutine);
  }
  instance.arm();
}

inline void close(void* application) noexcept {
  delete static_cast<Instance*>(application);
}

template <Application function>
void* open(const mgr_host_table* host, void* worker) noexcept {
  return new (std::nothrow) Instance(*host, worker, function);
}

template <Application function>
inline constexpr mgr_application_table kTable = {
    MGR_ABI_MAGIC,   MGR_ABI_VERSION, sizeof(mgr_application_table),
    &open<function>, &call,           &wake,
    &cancel,         &run_timers,     &close};

}  // namespace mgr::app::detail
