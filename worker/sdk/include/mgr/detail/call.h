#pragma once

#include <cxxabi.h>

#include <coroutine>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include <mgr/abi.h>
#include <mgr/detail/frames.h>
#include <mgr/detail/timers.h>
#include <mgr/messages.h>
#include <mgr/scope.h>
#include <mgr/task.h>

namespace mgr::app {

class Receive;
class Send;

namespace detail {

using Application = Task<> (*)(const Scope&, Receive, Send);

// One loaded application in one worker.
struct Instance {
  Instance(const mgr_host_table& offered, void* of, Application function)
      : host(offered), worker(of), application(function) {}

  const mgr_host_table& host;
  void* worker;
  Application application;
  State state;
  Timers timers;
  std::chrono::steady_clock::time_point armed = std::chrono::steady_clock::time_point::max();

  // Asks the worker for the time when the first sleeper is due, if that is news.
  void arm() {
    using std::chrono::steady_clock;
    const auto wanted = timers.empty() ? steady_clock::time_point::max() : timers.first().due;
    if (wanted == armed) return;
    armed = wanted;
    const auto left = std::chrono::nanoseconds(wanted - steady_clock::now()).count();
    host.set_timer(worker, timers.empty() ? -1 : left < 0 ? 0 : left);
  }
};

// An exception as the log has it.
struct Raised {
  int outcome = MGR_RETURNED;
  std::string type;
  std::string what;
};

inline std::string type_of_current_exception() {
  const std::type_info* type = abi::__cxa_current_exception_type();
  if (!type) return "unknown exception";
  int status = 0;
  char* readable = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
  std::string text = readable ? readable : type->name();
  std::free(readable);
  return text;
}

inline Raised describe_current_exception() {
  try {
    throw;
  } catch (const Disconnected& gone) {
    return {MGR_DISCONNECTED, {}, gone.what()};
  } catch (const std::exception& exception) {
    return {MGR_RAISED, type_of_current_exception(), exception.what()};
  } catch (...) {
    return {MGR_RAISED, type_of_current_exception(), {}};
  }
}

inline mgr_text text_of(std::string_view view) {
  return {view.data(), view.size()};
}

// What a coroutine waits for; lives in its frame.
struct Waiter {
  enum class For { message, drain } what;
  std::coroutine_handle<> coroutine = nullptr;
  mgr_message message = {};
};

// One call of the application: its scope, its coroutine, and what that waits for. Made by call(),
// ended by the end of the coroutine or by cancel().
class Call {
 public:
  Call(Instance& instance, mgr_call& call)
      : instance_(instance), call_(call), scope_(instance.host, call, instance.state) {
    call.task = this;
  }
  Call(const Call&) = delete;

  static void* operator new(std::size_t size) { return Frames::allocate(size); }
  static void operator delete(void* memory, std::size_t size) { Frames::release(memory, size); }

  // The call whose coroutine runs now. Throws std::logic_error outside of one.
  static Call& running(const char* who) {
    if (running_) return *running_;
    throw std::logic_error(std::string(who) + "() outside of a call of the application");
  }

  Instance& instance() const { return instance_; }

  // All three may end it: then it is gone afterwards.
  static void start(Call* call);
  static void resume(Call* call, std::coroutine_handle<> coroutine);
  static void wake(Call* call);

  void wait(Waiter& waiter) {
    if (waiter_) throw std::logic_error("this call awaits receive() or send() already");
    waiter_ = &waiter;
  }
  void forget(Waiter& waiter) {
    if (waiter_ == &waiter) waiter_ = nullptr;
  }
  // Fills it, if there is one.
  bool receive(mgr_message& message) { return instance_.host.receive(&call_, &message) != 0; }
  int flow() const { return instance_.host.flow(&call_); }

  // Each throws what stands for a failure. False: taken, but wait until flow() says otherwise.
  bool send_head(int status, const Headers& headers);
  bool send_body(std::string_view body, bool more) {
    return sent(instance_.host.send_body(&call_, text_of(body), more ? 1 : 0));
  }
  bool send_lifespan(int message, std::string_view text) {
    return sent(instance_.host.send_lifespan(&call_, message, text_of(text)));
  }

 private:
  static bool sent(int result);
  static void finish(Call* call, const Raised& raised);
  Raised raised() const;
  bool has_come(Waiter& waiter);

  static inline Call* running_ = nullptr;

  Instance& instance_;
  mgr_call& call_;
  Scope scope_;
  Waiter* waiter_ = nullptr;
  Task<> root_ = Task<>::none();
};

inline void Call::resume(Call* call, std::coroutine_handle<> coroutine) {
  running_ = call;
  coroutine.resume();
  running_ = nullptr;
  if (call->root_.done()) finish(call, call->raised());
}

inline Raised Call::raised() const {
  try {
    root_.take();
    return {};
  } catch (...) {
    return describe_current_exception();
  }
}

// What the application's frame holds ends before the request does.
inline void Call::finish(Call* call, const Raised& raised) {
  const mgr_host_table& host = call->instance_.host;
  mgr_call& ended = call->call_;
  delete call;
  host.finished(&ended, raised.outcome, text_of(raised.type), text_of(raised.what));
}

inline bool Call::has_come(Waiter& waiter) {
  switch (waiter.what) {
    case Waiter::For::message:
      return receive(waiter.message);
    case Waiter::For::drain:
      return flow() != MGR_FLOW_FULL;
  }
  return false;
}

inline void Call::wake(Call* call) {
  if (!call->waiter_ || !call->has_come(*call->waiter_)) return;
  resume(call, std::exchange(call->waiter_, nullptr)->coroutine);
}

inline bool Call::sent(int result) {
  switch (result) {
    case MGR_SENT:
      return true;
    case MGR_SENT_FULL:
      return false;
    case MGR_SENT_CLOSED:
      throw Disconnected();
    case MGR_SENT_TOO_LONG:
      throw std::runtime_error("the response is longer than its Content-Length");
    case MGR_SENT_TOO_SHORT:
      throw std::runtime_error("the response is shorter than its Content-Length");
    case MGR_SENT_BAD_HEAD:
      throw std::invalid_argument(
          "the status is not in 100..999, or HTTP forbids a header's name or value");
    case MGR_SENT_WRONG_SCOPE:
      throw std::logic_error("send(): a message of another type of scope");
    default:
      throw std::logic_error("send(): not the message that is due now");
  }
}

inline bool Call::send_head(int status, const Headers& headers) {
  if (headers.many().empty()) {
    const auto few = headers.few();
    return sent(instance_.host.send_head(&call_, status, few.data(), few.size()));
  }
  std::vector<mgr_field> all(headers.few().begin(), headers.few().end());
  for (const Header& field : headers.many()) {
    all.push_back({text_of(field.name), text_of(field.value)});
  }
  return sent(instance_.host.send_head(&call_, status, all.data(), all.size()));
}

}  // namespace detail
}  // namespace mgr::app
