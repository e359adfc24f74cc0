#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "common/server/exchange.h"
#include "worker/native/call.h"

namespace mgr::native {

class Dispatcher;

// One HTTP request in a C++ application (ASGI www.rst). The dispatcher's pool owns it and uses it
// again; it is in use from begin() until it concludes.
class Request final : public Call, public server::ExchangeObserver {
 public:
  Request(Dispatcher& dispatcher, std::string_view root_path);
  Request(const Request&) = delete;

  void begin(server::Exchange& exchange);
  // It was cancelled: what is left of it ends without a word.
  void cut();

  // Call
  const mgr_field* headers(std::size_t& count) override;
  bool receive(mgr_message& message) override;
  int send_head(int status, const mgr_field* headers, std::size_t count) override;
  int send_body(std::string_view body, bool more) override;
  int send_lifespan(int message, std::string_view text) override;
  int flow() const override;
  void finished(int outcome, std::string_view type, std::string_view what) override;

  // ExchangeObserver: inside of the loop's turn.
  void on_body(server::Exchange& exchange) noexcept override;
  void on_drain(server::Exchange& exchange) noexcept override;
  void on_disconnect(server::Exchange& exchange) noexcept override;
  void on_input_end(server::Exchange& exchange) noexcept override;
  void on_timeout(server::Exchange& exchange) noexcept override;

 private:
  friend class Dispatcher;
  enum class Waiting { for_nothing, for_message, for_drain };

  void fill_scope(const server::Request& head);
  bool over() const;
  void come(Waiting what) noexcept;
  void answer_for_the_application();
  void conclude();
  std::string line() const;

  Dispatcher& dispatcher_;
  server::Exchange* exchange_ = nullptr;  // null: in the pool
  std::string path_;                      // where it differs from raw_path
  std::string received_;                  // the part of the body that the application has now
  std::vector<mgr_field> headers_;        // filled when they are asked for
  Waiting waiting_ = Waiting::for_nothing;
  std::size_t index_ = 0;    // in the dispatcher's list of running requests
  bool marked_ = false;      // in the dispatcher's list of woken ones
  bool asked_ = false;       // receive() was called: 100 Continue may be sent
  bool body_given_ = false;  // the last part was delivered
  bool full_ = false;
  bool timed_out_ = false;
};

}  // namespace mgr::native
