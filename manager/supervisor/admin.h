#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/ipc/scoreboard.h"
#include "common/loop/event_loop.h"
#include "common/server/server.h"

namespace mgr::manager {

class StateReader;
class StateWriter;

// The admin listener: `/metrics`, `/livez` and `/readyz` by TCP, to everyone who can reach it, and
// nothing that changes anything. GET and HEAD alone; few connections at once and short timeouts, so
// that nobody keeps the supervisor busy. The supervisor answers itself, also when no worker can.
class Admin final : public server::Application {
 public:
  struct Answers {
    std::function<std::string()> metrics;
    std::function<std::string()> not_ready_reason;  // empty: ready
    std::function<std::string()> ready_text;
  };
  // Connections at once; more wait in the queue.
  static constexpr std::size_t kMostConnections = 64;

  // `loop` and `log` must outlive it.
  Admin(EventLoop& loop, Answers answers, const Log& log);

  // Listens on an address of the setting `admin`. Errors name setting and address.
  Result<void> open(const std::string& address);

  // Serves sockets that somebody else has bound. Errors: no stream socket.
  Result<void> adopt(std::vector<UniqueFd> sockets);

  // The listening sockets, and their taking in place of open() (saved_state.h).
  nlohmann::json save(StateWriter& writer) const;
  Result<void> restore(const nlohmann::json& saved, const StateReader& reader);

  void on_request(server::Exchange& exchange) noexcept override;

 private:
  void answer(server::Exchange& exchange) const;
  void listen(UniqueFd socket, const std::string& address);

  Answers answers_;
  const Log& log_;
  ipc::WorkerRecord counters_;
  server::Server server_;
  std::vector<std::pair<std::string, UniqueFd>> sockets_;  // the server has copies
};

}  // namespace mgr::manager
