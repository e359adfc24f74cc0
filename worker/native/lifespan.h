#pragma once

#include <cstdint>
#include <string>

#include "common/base/log.h"
#include "common/settings/settings.h"
#include "worker/native/call.h"
#include "worker/native/dispatcher.h"

namespace mgr::native {

// ASGI's lifespan protocol (spec lifespan.rst 2.0) with a C++ application: one in each worker. Its
// rules are those of the Python host's (worker/python/mgr_host/lifespan.py).
class Lifespan final : public Call {
 public:
  Lifespan(Dispatcher& dispatcher, LifespanMode mode);
  Lifespan(const Lifespan&) = delete;

  // Each begins the phase; it goes on in turns of the loop until it is over.
  void start_up();
  void shut_down();
  bool started() const { return started_; }
  bool stopped() const { return stopped_; }
  // Ends it where it stands.
  void cancel();

  // Why the start-up has failed: one line, and all of the application's message; both empty: it has
  // not.
  struct Failure {
    std::string error;
    std::string message;
  };
  const Failure& failure() const { return failure_; }

  // Call
  const mgr_field* headers(std::size_t& count) override;
  bool receive(mgr_message& message) override;
  int send_head(int status, const mgr_field* headers, std::size_t count) override;
  int send_body(std::string_view body, bool more) override;
  int send_lifespan(int message, std::string_view text) override;
  int flow() const override;
  void finished(int outcome, std::string_view type, std::string_view what) override;

 private:
  // What the application has said of a phase.
  enum class Said { nothing, complete, failed };

  int say(Said& phase, bool& over, Said said);

  Dispatcher& dispatcher_;
  const LifespanMode mode_;
  bool running_ = false;     // the application's coroutine
  std::uint32_t event_ = 0;  // that it has not received yet
  bool waiting_ = false;     // for the next
  bool told_ = false;        // it has received that of the start-up
  bool answered_ = false;    // it has sent something that is no answer to it
  bool started_ = false;
  bool stopped_ = false;
  Said startup_ = Said::nothing;
  Said shutdown_ = Said::nothing;
  Failure failure_;
};

}  // namespace mgr::native
