#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/server/exchange.h"
#include "worker/python/py.h"

namespace mgr::python {

class WsgiHost;

// The head that start_response() was called with; the texts are its own.
struct WsgiHead {
  int status = 0;
  std::string reason;
  std::string text;  // names and values
  struct Field {
    std::uint32_t name_size;
    std::uint32_t value_size;
  };
  std::vector<Field> fields;
  bool has_length = false;
  std::uint64_t length = 0;  // Content-Length
};

// One WSGI request, between the loop, which has its exchange, and the thread that runs the
// application: the loop's own, or one of the pool (WsgiHost). Body and response pass through here
// in both directions with back-pressure; what the two sides share is guarded by the host's mutex,
// where there are two.
//
// Counted: the host holds one reference from the request's beginning to its end, the Python object
// `wsgi.input` another, which may be kept for longer and then finds the request over.
//
//   gathering ──small body complete──→ queued ──thread──→ running ──→ over
//       └──────── client gone ──────────→ over               └─last is lent→ sending ─→ closing ─→
//       over
class WsgiCall final : public server::ExchangeObserver {
 public:
  explicit WsgiCall(WsgiHost& host) : host_(host) {}
  WsgiCall(const WsgiCall&) = delete;

  void hold() { references_.fetch_add(1, std::memory_order_relaxed); }
  // The loop's thread keeps what is dropped for another request.
  enum class By { loop, application };
  void drop(By who = By::application);

  // ---- the loop's side

  void begin(server::Exchange& exchange);
  void on_body(server::Exchange& exchange) noexcept override;
  void on_drain(server::Exchange& exchange) noexcept override;
  void on_disconnect(server::Exchange& exchange) noexcept override;
  void on_timeout(server::Exchange& exchange) noexcept override;
  // Acts on what the other side has left, and ends the call where that is due. Not from inside of
  // an exchange's own call.
  void attend();

  // ---- the side of the thread that runs it; with the GIL, which is released while waiting

  WsgiHost& host() const { return host_; }
  // Until finish().
  const server::Request& request() const { return exchange_->request(); }
  bool finished() const { return finished_; }
  // "GET /path" for the log.
  std::string line() const;
  WsgiHead head;       // status 0: start_response() was not called
  WsgiHead next_head;  // for the one who makes it
  // The head has been handed over: it can't be replaced any more.
  bool head_given() const { return head_given_; }
  // The end of the response has been handed over.
  bool answered() const { return last_given_; }
  std::uint64_t body_given() const { return body_given_; }
  bool lost() const;

  enum class Sent {
    taken,   // the data is not needed any more
    lent,    // the last of a response: its memory must stay until the host calls for the end
    closed,  // the client is gone
    failed,  // with an exception set, by a signal's handler
  };
  // When the loop hears of it: at once, or by the finish() that follows.
  enum class Wake { now, by_finish };
  // Hands over what follows, and the head before it. `last` completes the response; only that may
  // be lent.
  Sent send(std::string_view data, bool last, Wake wake = Wake::now);
  // The last of the response.
  Sent send_file(UniqueFd file, std::uint64_t offset, std::uint64_t count);
  // The application has failed: 500 where nothing was sent, else the connection ends. A response
  // that was handed over as a whole is sent all the same.
  void fail();
  // Nothing more comes of the application.
  void finish();

  // The last of the response was lent: the host calls for the end when it is sent, on the thread
  // that runs the call, and until then this keeps what is needed for that.
  bool is_lent() const { return is_lent_; }
  struct Lent {
    Ref iterable;
    Ref iterator;
    Ref item;  // whose memory it is
  };
  Lent lent;

  // The body: input() is what is at hand; more_input() waits for more when that is used up.
  std::string_view input() const { return std::string_view(in_).substr(in_used_); }
  void use_input(std::size_t bytes) { in_used_ += bytes; }
  enum class Input { some, end, closed, failed };  // failed: with an exception set
  Input more_input();

 private:
  friend class WsgiHost;
  enum class Stage { gathering, queued, over };

  bool is_ready() const;
  void feed();
  bool take_output();
  void pump();
  void send_head();
  void send_slice();
  void took(server::Exchange::SendResult result);
  void lose();
  bool tell();
  void tell_and_attend_later();
  void answer_for_the_application();
  void end();
  void reset();
  bool wait(bool (WsgiCall::*ready)() const);
  bool has_room() const { return (queued_.size() < kQueued && !large_waits_) || lost_; }
  bool large_is_taken() const { return !large_waits_ || lost_; }
  bool input_is_known() const {
    return !incoming_.empty() || input_complete_ || lost_ || complete_;
  }
  Sent send_directly(std::string_view data, bool last);
  Sent lend(std::unique_lock<std::mutex> lock);
  void leave_thread();

  // How much is copied for the loop to send; larger data is lent.
  static constexpr std::size_t kQueued = 64 * 1024;
  static constexpr std::size_t kSlice = 64 * 1024;
  // How much of a body is taken from the exchange before it is read, and how large a body is
  // awaited before a thread is taken for it.
  static constexpr std::size_t kInputAhead = 64 * 1024;

  WsgiHost& host_;
  std::atomic<int> references_{0};
  server::Exchange* exchange_ = nullptr;  // null: over

  // ---- the loop's
  Stage stage_ = Stage::over;
  std::string sending_;
  bool head_sent_ = false;
  bool blocked_ = false;  // the exchange is full
  bool feeding_ = false;
  bool asked_ = false;      // for the body
  bool has_large_ = false;  // large_ or file_ follows sending_
  bool last_ = false;       // and nothing follows that
  bool done_ = false;       // the exchange has the whole response

  // ---- shared; lost_ and complete_ are the loop's to set
  std::string incoming_;
  std::string queued_;      // to be sent
  std::string_view large_;  // after it: memory of the application's
  UniqueFd file_;           // or, where that is empty, a file
  std::uint64_t file_offset_ = 0;
  std::uint64_t file_count_ = 0;
  bool large_waits_ = false;  // large_ or file_ is not taken as a whole
  bool last_queued_ = false;  // nothing follows queued_ and large_
  bool input_complete_ = false;
  bool input_wanted_ = false;
  bool lost_ = false;      // neither body nor response passes any more
  bool complete_ = false;  // the exchange has the whole response: done_, once told
  bool failed_ = false;
  bool finished_ = false;
  bool running_ = false;  // on a thread of the pool
  bool stuck_ = false;    // its time was over meanwhile
  bool parked_ = false;   // the host is to call for the end
  bool marked_ = false;   // in the host's list
  std::condition_variable changed_;

  // ---- the application's side
  std::string in_;
  std::size_t in_used_ = 0;
  std::uint64_t body_given_ = 0;
  bool head_given_ = false;
  bool last_given_ = false;
  bool is_lent_ = false;
  std::size_t thread_ = 0;  // that runs it
};

}  // namespace mgr::python
