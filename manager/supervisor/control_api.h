#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "common/base/log.h"
#include "common/server/exchange.h"
#include "manager/supervisor/lifecycle.h"
#include "manager/supervisor/status.h"

namespace mgr::manager {

// The control API (contract section 3): an application on the same HTTP server that the workers
// use. Root and the supervisor's own user may do everything, members of control_group may read, but
// not the application's own user. It must outlive the server; changes that are under way keep their
// exchange until they are done.
class ControlApi final : public server::Application {
 public:
  struct Actions {
    std::function<void(Done)> reload;
    std::function<void(std::vector<int>, Done)> restart;
    std::function<void(std::variant<Lifecycle::ScaleTo, Lifecycle::ScaleBy>, Done)> scale;
    std::function<void(Lifecycle::Stop)> stop;
    std::function<void(Traffic, Done)> set_traffic;
    std::function<void(Done)> reopen;
    std::function<void(LogLevel, Done)> set_log_level;
    // `asker` gives the descriptor of the connection that waits for the outcome; -1: gone.
    std::function<void(std::function<int()> asker, Done)> upgrade;
    std::function<void(std::function<void()>)> when_stopped;
    std::function<nlohmann::json()> config;
    std::function<std::string()> not_ready_reason;  // empty: ready
    std::function<std::string()> ready_text;
    std::function<std::string()> metrics;
    // The answer's document, or why there is none (code ENOENT: there is no such slot).
    std::function<void(int slot, std::function<void(const Result<nlohmann::ordered_json>&)>)> stack;
    // Takes the exchange over. False: there are too many listeners already.
    std::function<bool(server::Exchange&)> listen;
  };
  struct Access {
    std::optional<gid_t> control_group;  // whose members may read
    std::optional<uid_t> application;    // who may do nothing: the application's user
  };
  ControlApi(Actions actions, Status& status, Access access, const Log& log);
  ~ControlApi();

  void on_request(server::Exchange& exchange) noexcept override;

 private:
  class Call;
  enum class Right { none, read, change };
  Right right_of(const server::Exchange& exchange) const;
  void read(Call& call, std::string_view path);
  void change(Call& call, std::string_view path);
  void scale(Call& call, const nlohmann::json& body);
  void restart(Call& call, const nlohmann::json& body);
  void stop(Call& call, const nlohmann::json& body);
  void set_log_level(Call& call, const nlohmann::json& body);
  void stack(Call& call, std::string_view slot);
  void upgrade(Call& call);
  void events(Call& call);
  void finish(std::uint64_t call, const Outcome& outcome);
  Done finisher(const Call& call);
  void dispatch(Call& call);

  Actions actions_;
  Status& status_;
  Access access_;
  const Log& log_;
  std::uint64_t next_call_ = 1;
  std::map<std::uint64_t, std::unique_ptr<Call>> calls_;
};

}  // namespace mgr::manager
