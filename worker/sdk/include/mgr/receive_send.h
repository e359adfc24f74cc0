#pragma once

#include <coroutine>
#include <string_view>

#include <mgr/detail/call.h>
#include <mgr/messages.h>

namespace mgr::app {
namespace detail {

// Base of what receive() and send() give. Awaited at once, by one coroutine at a time in each call.
class CallAwaiter {
 public:
  CallAwaiter(const CallAwaiter&) = delete;
  ~CallAwaiter() { call_.forget(waiter_); }

  void await_suspend(std::coroutine_handle<> coroutine) {
    waiter_.coroutine = coroutine;
    call_.wait(waiter_);
  }

 protected:
  CallAwaiter(Call& call, Waiter::For what) : call_(call), waiter_{what} {}

  Call& call_;
  Waiter waiter_;
};

class ReceiveAwaiter : public CallAwaiter {
 public:
  explicit ReceiveAwaiter(Call& call) : CallAwaiter(call, Waiter::For::message) {}
  bool await_ready() { return call_.receive(waiter_.message); }
  Message await_resume() const {
    const mgr_message& got = waiter_.message;
    return {type_of(got.type), {got.body.data, got.body.size}, got.more_body != 0};
  }

 private:
  static Message::Type type_of(std::uint32_t type) {
    switch (type) {
      case MGR_MESSAGE_REQUEST:
        return Message::Type::request;
      case MGR_MESSAGE_STARTUP:
        return Message::Type::startup;
      case MGR_MESSAGE_SHUTDOWN:
        return Message::Type::shutdown;
      default:
        return Message::Type::disconnect;
    }
  }
};

// `Sending` is called with the Call when it is awaited: false means to wait for the client.
template <typename Sending>
class SendAwaiter : public CallAwaiter {
 public:
  SendAwaiter(Call& call, Sending sending)
      : CallAwaiter(call, Waiter::For::drain), sending_(sending) {}
  bool await_ready() { return sending_(call_); }
  void await_resume() const {
    if (waiter_.coroutine && call_.flow() == MGR_FLOW_GONE) throw Disconnected();
  }

 private:
  Sending sending_;
};

}  // namespace detail

// Gives the next message to this call. A request: parts of its body, the last with more_body false,
// then, once the client is gone or the response is complete, a disconnect as often as it is asked.
// A lifespan: a startup, then a shutdown when the worker leaves. What is not received is not read
// from the client: that is the back-pressure of request bodies.
//
// A copy may be handed on, but not kept longer than the application's coroutine.
class Receive {
 public:
  explicit Receive(detail::Call& call) : call_(&call) {}
  detail::ReceiveAwaiter operator()() const { return detail::ReceiveAwaiter(*call_); }

 private:
  detail::Call* call_;
};

// Takes the messages of this call. The head goes out with the first part of the body. Awaiting it
// waits while the client does not read. Throws Disconnected once the client is gone,
// std::invalid_argument for a head that HTTP forbids, std::runtime_error for a body of another
// length than its Content-Length, std::logic_error for a message out of order. What is sent after
// the end of a response is ignored.
class Send {
  // These give what operator() gives, so they stand before it.
  template <typename Sending>
  detail::SendAwaiter<Sending> awaiter(Sending sending) const {
    return detail::SendAwaiter<Sending>(*call_, sending);
  }
  auto lifespan(int message, std::string_view text) const {
    return awaiter(
        [message, text](detail::Call& call) { return call.send_lifespan(message, text); });
  }

 public:
  explicit Send(detail::Call& call) : call_(&call) {}

  auto operator()(const ResponseStart& start) const {
    return awaiter(
        [&start](detail::Call& call) { return call.send_head(start.status, start.headers); });
  }
  auto operator()(const ResponseBody& body) const {
    return awaiter(
        [body](detail::Call& call) { return call.send_body(body.body, body.more_body); });
  }
  auto operator()(const StartupComplete&) const { return lifespan(MGR_STARTUP_COMPLETE, {}); }
  auto operator()(const StartupFailed& failed) const {
    return lifespan(MGR_STARTUP_FAILED, failed.message);
  }
  auto operator()(const ShutdownComplete&) const { return lifespan(MGR_SHUTDOWN_COMPLETE, {}); }
  auto operator()(const ShutdownFailed& failed) const {
    return lifespan(MGR_SHUTDOWN_FAILED, failed.message);
  }

  // respond() is made of this.
  auto response(int status, const Headers& headers, std::string_view body) const {
    return awaiter([status, &headers, body](detail::Call& call) {
      return call.send_head(status, headers) && call.send_body(body, false);
    });
  }

 private:
  detail::Call* call_;
};

namespace detail {

inline void Call::start(Call* call) {
  running_ = call;
  try {
    call->root_ = call->instance_.application(call->scope_, Receive(*call), Send(*call));
    call->root_.start();
  } catch (...) {
    running_ = nullptr;
    return finish(call, describe_current_exception());
  }
  running_ = nullptr;
  if (call->root_.done()) finish(call, call->raised());
}

}  // namespace detail
}  // namespace mgr::app
