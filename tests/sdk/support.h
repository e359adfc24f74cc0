#pragma once

#include <gtest/gtest.h>
#include <mgr/application.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/unique_fd.h"
#include "common/ipc/channel.h"
#include "common/ipc/scoreboard.h"
#include "worker/life/worker.h"
#include "worker/native/dispatcher.h"
#include "worker/native/lifespan.h"

// An application in a real worker in this process: its loop, server, dispatcher and lifespan; the
// test is its supervisor and its client.
namespace mgr::native {

using std::chrono::milliseconds;
using Handler = std::function<app::Task<>(const app::Scope&, app::Receive, app::Send)>;

class ApplicationTest : public testing::Test {
 protected:
  ~ApplicationTest() override;

  // Opens it, runs the start-up and listens. The handler's captures live as long as the test.
  void serve(Handler handler, LifespanMode lifespan = LifespanMode::off);
  void turn_until(const std::function<bool()>& done, milliseconds limit = milliseconds(30'000));

  UniqueFd connect();
  void send(const UniqueFd& client, std::string_view bytes);
  // All that came until `done` says so of it, or until the end.
  std::string read_until(const UniqueFd& client,
                         const std::function<bool(const std::string&)>& done);
  // The answer to one request on a connection of its own, to its end.
  std::string ask(std::string_view request);
  std::string get(std::string_view path);

  Settings settings;
  std::string logged();

  std::optional<Dispatcher> dispatcher;
  std::optional<Lifespan> lifespan;

 private:
  Result<ipc::Scoreboard> board_ = ipc::Scoreboard::create();
  UniqueFd log_file_;
  std::optional<Log> log_;
  std::optional<ipc::Channel> supervisor_;
  std::optional<worker::Worker> worker_;
  UniqueFd listener_;
};

}  // namespace mgr::native
