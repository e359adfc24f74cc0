#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/server/server.h"

// What the tests of the server share: an application whose behaviour is chosen by the path, a
// blocking client, and a fixture that turns the server's loop while the client waits.
namespace mgr::server {

using std::chrono::milliseconds;

// A client's end of a connection. The loop is turned while it waits, in the same thread.
class Client {
 public:
  Client(EventLoop& loop, UniqueFd fd) : loop_(loop), fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }
  void send(std::string_view bytes);
  // One piece, then turns of the loop until nothing happens.
  void send_and_settle(std::string_view bytes);
  // Reads until `enough` says so, EOF, an error or the limit. What came is in `received`.
  void read_until(const std::function<bool()>& enough, milliseconds limit = milliseconds(5000));
  void read_until_contains(std::string_view text);
  std::string read_to_end();
  void half_close();
  void close() { fd_.reset(); }
  void reset();

  // Takes one whole response off the front of what came (reads more as needed). HEAD: no body.
  struct Response {
    int status = 0;
    std::string head;  // with the empty line
    std::string body;
    std::string field(std::string_view name) const;
    bool has(std::string_view text) const { return head.find(text) != std::string::npos; }
  };
  Response response(bool head_request = false);

  std::string received;
  bool eof = false;
  bool was_reset = false;

 private:
  bool take_body(Response& response, std::size_t from, bool head_request, std::size_t& end);

  EventLoop& loop_;
  UniqueFd fd_;
};

// Answers by path; see support.cc. Remembers what happened.
class TestApplication final : public Application, public ExchangeObserver {
 public:
  void on_request(Exchange& exchange) noexcept override;
  void on_body(Exchange& exchange) noexcept override;
  void on_drain(Exchange& exchange) noexcept override;
  void on_disconnect(Exchange& exchange) noexcept override;
  void on_input_end(Exchange&) noexcept override { ++input_ends; }

  using Handler = std::function<void(Exchange&)>;
  // Instead of the default ("hello" at once).
  std::map<std::string, Handler, std::less<>> handlers;
  Handler body_handler;
  Handler drain_handler;
  Handler disconnect_handler;

  std::vector<Exchange*> held;    // not released
  std::vector<std::string> seen;  // "METHOD target"
  int disconnects = 0;
  int input_ends = 0;
  int drains = 0;
  int bodies = 0;
};

// Sends a whole response and releases.
void answer(Exchange& exchange, int status, std::string_view body);

class ServerTest : public testing::Test {
 protected:
  ServerTest();
  ~ServerTest() override;

  // Starts with the options; a listening TCP socket on a free port of 127.0.0.1.
  void start(ServerOptions options = {});
  void start_unix(ServerOptions options = {}, Application* instead = nullptr);
  Client connect();
  // Turns of the loop until `done`, at most `limit`.
  bool turn_until(const std::function<bool()>& done, milliseconds limit = milliseconds(5000));
  void turn_for(milliseconds time);
  // All bytes of the answers to `request` on a connection of its own, up to its end.
  std::string exchange_bytes(std::string_view request);
  int status_of(std::string_view request);

  std::uint64_t requests(int status_class) const {
    return counters.requests[static_cast<std::size_t>(status_class)].load();
  }

  EventLoop loop;
  TestApplication application;
  ipc::WorkerRecord counters;
  Log log;
  std::unique_ptr<Server> server;
  int port = 0;
  std::string unix_path;
};

UniqueFd listen_on_loopback(int& port);

}  // namespace mgr::server
