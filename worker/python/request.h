#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/server/exchange.h"
#include "worker/python/py.h"

namespace mgr::python {

class Dispatcher;

// One HTTP request in Python: the C++ part of the coroutine-like object that an asyncio.Task runs.
// It calls the application inside its first step, drives the application's coroutine, answers what
// receive() and send() ask, and sees the end.
//
// Lives inside a PyObject (RequestObject). The dispatcher keeps a reference from its start to its
// conclusion; what the application keeps longer (receive, send) then finds a finished exchange.
// All but the observer's calls need the GIL and the loop's thread.
class Request final : public server::ExchangeObserver {
 public:
  Request(Dispatcher& dispatcher, server::Exchange& exchange);
  ~Request();
  Request(const Request&) = delete;

  // A new object of the coroutine-like type; null with an exception set.
  static Ref create(Dispatcher& dispatcher, server::Exchange& exchange);
  static Request& of(PyObject* object);
  static bool make_types(PyObject* module);

  // ExchangeObserver: inside uv_run, without the GIL.
  void on_body(server::Exchange& exchange) noexcept override;
  void on_drain(server::Exchange& exchange) noexcept override;
  void on_disconnect(server::Exchange& exchange) noexcept override;
  void on_input_end(server::Exchange& exchange) noexcept override;
  void on_timeout(server::Exchange& exchange) noexcept override;

  // The steps of the coroutine.
  PySendResult step(PyObject* self, PyObject* value, PyObject** result);
  PySendResult throw_in(PyObject* args, PyObject** result);
  bool close();

  // Wakes whoever waits for what the observer has heard; cancels the task if the time was over.
  void wake();
  void hold_task(Ref task);
  PyObject* task() const { return task_.get(); }  // borrowed; null before and after the run
  PyObject* inner() const { return inner_.get(); }
  // "GET /path" for the log.
  std::string line() const;

  // receive(): a new message, or null; without an exception set null means that there is none yet.
  PyObject* take_message();
  // send(): `full`: the message is taken, but the caller should wait until can_send().
  enum class Sent { done, full, failed };
  Sent send(PyObject* message);
  enum class Flow { open, full, gone };
  Flow flow() const;
  static void raise_disconnected();

  // Futures on which a receive() or send() waits (new reference given back; null: exception set).
  enum class Waiting { for_message, for_drain };
  PyObject* new_waiter(Waiting what);
  void drop_waiter(PyObject* future);

 private:
  friend class Dispatcher;
  enum class Outcome { returned, raised, cancelled };

  bool begin(PyObject* self);
  PyObject* call_application(PyObject* scope, PyObject* receive, PyObject* send);
  PySendResult ended_by_exception(PyObject** result);
  void conclude(Outcome outcome, PyObject* exception);
  void answer_for_the_application(Outcome outcome);
  void wake_all(std::vector<PyObject*>& waiters);
  void cancel_task();
  bool over() const;
  PyObject* disconnect_message() const;
  Sent send_start(PyObject* message);
  Sent send_body(PyObject* message);
  Sent send_trailers(PyObject* message);
  Sent send_early_hint(PyObject* message);
  Sent send_extension(PyObject* message, PyObject* type);
  Sent send_path(PyObject* message);
  Sent send_zero_copy(PyObject* message);
  struct Part {
    UniqueFd file;
    std::uint64_t offset;
    std::uint64_t count;
    bool more;
  };
  Sent send_file(Part part, const char* type);
  bool take_headers(PyObject* message, std::vector<Ref>& kept);
  bool collect_headers(PyObject* headers, std::vector<Ref>& kept);
  bool before_trailers(bool& more);
  Sent sent_a_part(server::Exchange::SendResult result, const char* type, bool more);
  Sent outcome_of(server::Exchange::SendResult result, const char* type, bool more);

  Dispatcher& dispatcher_;
  server::Exchange* exchange_;  // null once concluded
  Ref inner_;                   // what drives the application: its coroutine
  Ref task_;                    // asyncio itself holds tasks weakly
  std::vector<PyObject*> receivers_;
  std::vector<PyObject*> senders_;
  std::size_t index_ = 0;  // in the dispatcher's list of running requests
  bool started_ = false;
  bool marked_ = false;      // in the dispatcher's list of woken requests
  bool asked_ = false;       // receive() was called: 100 Continue may be sent
  bool body_given_ = false;  // the last http.request was delivered
  bool full_ = false;
  enum class Trailers { none, announced, due } trailers_ = Trailers::none;
  bool timed_out_ = false;
  bool must_cancel_ = false;
};

struct RequestObject {
  PyObject ob_base;
  Request request;
};

}  // namespace mgr::python
