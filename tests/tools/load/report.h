#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mgr::load {

using Clock = std::chrono::steady_clock;

// How a request can be lost, as its client sees it.
enum class Loss {
  refused,              // connect: ECONNREFUSED
  connect_error,        // connect: anything else
  reset,                // ECONNRESET or EPIPE before the response was complete
  eof_before_response,  // the connection ended before the response's head was complete
  truncated,            // it ended within the body
  raced,      // written on an idle connection that was used before, and that ended unanswered
  timed_out,  // no complete response in time
  wrong_status,
  wrong_body,    // another body than expected, or another request's
  bad_response,  // not HTTP
  never_sent,    // its time had come, but no connection took it in time
  stray_bytes,   // bytes that nobody asked for: no request of its own, a defect all the same
};
inline constexpr std::size_t kLossKinds = 12;
std::string_view name_of(Loss loss);

struct LossDetail {
  std::string id;
  Loss kind;
  Clock::time_point when;
  std::chrono::system_clock::time_point wall;
  std::uint64_t bytes_seen = 0;
  int local_port = 0;
  std::uint64_t earlier_responses = 0;  // on the same connection
  std::string error;
};

// Counts everything and prints it as one line of JSON.
class Report {
 public:
  explicit Report(std::size_t most_details) : most_details_(most_details) {}

  void begin(Clock::time_point now) { begun_ = now; }
  void add_ok(Clock::duration latency);
  void add_loss(LossDetail detail);
  std::uint64_t ok() const { return ok_; }
  std::uint64_t lost() const;

  // {"due", "ok", "lost", a counter for each kind, "latency_ms", "losses": [first details] …}
  std::string json(Clock::time_point now) const;

  std::uint64_t due = 0;          // requests whose time has come
  std::uint64_t resent = 0;       // pipelined behind a `Connection: close`, sent again: no loss
  std::uint64_t connections = 0;  // opened
  std::uint64_t idle_closed = 0;  // ended by the server while nothing was outstanding
  std::uint64_t closed_by_response = 0;  // ended by `Connection: close`
  std::uint64_t left_open = 0;           // not ended by the server although a response had said so

 private:
  std::size_t most_details_;
  Clock::time_point begun_;
  std::uint64_t ok_ = 0;
  std::array<std::uint64_t, kLossKinds> lost_{};
  std::vector<std::uint32_t> latencies_us_;
  std::vector<LossDetail> details_;
};

}  // namespace mgr::load
