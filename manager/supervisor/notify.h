#pragma once

#include <deque>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
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
  int store = 0;                          // how many descriptors it keeps for us

  // Takes $NOTIFY_SOCKET, $WATCHDOG_USEC, $WATCHDOG_PID and $FDSTORE, and removes them: no child
  // may speak for the service. What is not meant for this process, or no number, counts as not
  // given.
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

  // Has a copy of the descriptor (borrowed) kept in the descriptor store, from which it comes back
  // at the next start; or taken from there. False, and nothing, where there is no store, or it is
  // full.
  bool keep(const std::string& name, int fd);
  void forget(const std::string& name);

  // Where it tells, what it has told, and what waits to be told (saved_state.h).
  nlohmann::json save() const;
  static NotifyOptions options_from(const nlohmann::json& saved);
  void restore(const nlohmann::json& saved);

 private:
  struct Message {
    std::string text;
    UniqueFd descriptor = {};
  };
  void send(Message message);
  void flush();
  bool deliver(const Message& message);  // false: not now

  const Log& log_;
  const NotifyOptions options_;
  UniqueFd socket_;
  net::UnixAddress address_;
  bool warned_ = false;
  bool store_full_ = false;
  std::optional<ServiceReport> told_;
  std::deque<Message> waiting_;
  std::set<std::string> kept_;
  Timer again_;
  Timer watchdog_;
};

}  // namespace mgr::manager
