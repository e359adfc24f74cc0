#pragma once

#include <deque>
#include <optional>
#include <string>

#include "common/base/log.h"
#include "common/base/unique_fd.h"
#include "common/loop/event_loop.h"
#include "common/net/address.h"
#include "manager/supervisor/times.h"

namespace mgr::manager {

class Lifecycle;

// What the service manager asks for: where it wants to be notified, and how often at least.
struct NotifyOptions {
  std::string socket;                     // a path, or '@' and an abstract name; empty: nowhere
  std::chrono::microseconds watchdog{0};  // longest silence that it takes for health; 0: any

  // Takes $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID, and removes them: no child may speak
  // for the service. What is not meant for this process, or no number, counts as not given.
  static NotifyOptions take_from_environment();
};

// What the service manager is told.
struct ServiceReport {
  enum class State { starting, ready, reloading, stopping };
  State state = State::starting;
  std::string status;  // one line for people
  Millis patience{0};  // how long this state may last with the present settings; 0: for ever
};

// The report that a supervisor in this state gives.
ServiceReport service_report(const Lifecycle& lifecycle);

// Notifies the service manager (sd_notify(3), without its library): a datagram for each change.
// Never waits and never fails: what the socket does not take now is sent soon, and one that can't
// be used at all is one warning in the log. `loop` and `log` must outlive it.
class Notifier {
 public:
  Notifier(EventLoop& loop, const NotifyOptions& options, const Log& log);
  Notifier(const Notifier&) = delete;

  // Says what has changed since the last report. After the stop has been told nothing else is.
  void tell(const ServiceReport& report);

 private:
  void send(std::string message);
  void flush();
  bool deliver(const std::string& message);  // false: not now

  const Log& log_;
  UniqueFd socket_;
  net::UnixAddress address_;
  bool warned_ = false;
  std::optional<ServiceReport> told_;
  std::deque<std::string> waiting_;
  Timer again_;
  Timer watchdog_;
};

}  // namespace mgr::manager
