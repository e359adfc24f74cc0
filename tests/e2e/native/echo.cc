// The C++ application of most tests: what it does is chosen by the path.
#include <mgr/application.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#ifndef GREETING
#define GREETING "echo "
#endif

using namespace mgr::app;

namespace {

struct Database {
  std::string name;
  int queries = 0;
};

// Leaves a file where it ends, so that a test sees that it did.
class Trace {
 public:
  explicit Trace(std::string path) : path_(std::move(path)) {}
  ~Trace() { std::ofstream(path_) << "destroyed\n"; }

 private:
  std::string path_;
};

long number_of(std::string_view text) {
  return std::strtol(std::string(text).c_str(), nullptr, 10);
}

Task<> upload(Receive receive, Send send) {
  std::size_t total = 0;
  for (bool more = true; more;) {
    const Message message = co_await receive();
    if (message.type == Message::Type::disconnect) throw Disconnected();
    total += message.body.size();
    more = message.more_body;
  }
  const std::string text = "got " + std::to_string(total);
  co_await respond(send, 200, {}, text);
}

Task<> download(Send send, long bytes) {
  const std::string part(64 * 1024, 'x');
  const std::string length = std::to_string(bytes);
  co_await send(ResponseStart{200, {{"content-length", length}}});
  while (bytes > 0) {
    const std::size_t size = std::min<std::size_t>(part.size(), static_cast<std::size_t>(bytes));
    bytes -= static_cast<long>(size);
    co_await send(ResponseBody{std::string_view(part).substr(0, size), bytes > 0});
  }
}

Task<> wait_for_the_end(Receive receive, const Trace&) {
  for (;;) {
    const Message message = co_await receive();
    if (message.type == Message::Type::disconnect) co_return;
  }
}

// Blocks the loop until somebody writes into the FIFO.
[[gnu::noinline]] void stay_in_the_loop(const std::string& fifo) {
  char byte;
  std::ifstream(fifo).get(byte);
}

Task<> request(const Scope& scope, Receive receive, Send send) {
  const std::string path(scope.path());
  const std::string query(scope.query_string());
  if (path == "/upload") co_return co_await upload(receive, send);
  if (path == "/download") co_return co_await download(send, number_of(query));
  if (path == "/throw") throw std::runtime_error("thrown for a test");
  if (path == "/crash") std::abort();
  if (path == "/hang") {
    const Trace trace(query);
    co_await sleep(std::chrono::hours(1));
  }
  if (path == "/watch") {
    const Trace trace(query);
    co_return co_await wait_for_the_end(receive, trace);
  }
  if (path == "/block") {
    co_await offload([] { std::this_thread::sleep_for(std::chrono::hours(1)); });
  }
  if (path == "/stuck") stay_in_the_loop(std::string(query));
  if (path == "/yield") {
    for (int i = 0; i < 50; ++i) co_await sleep(std::chrono::seconds(0));
  }
  if (path == "/slow") co_await sleep(std::chrono::milliseconds(number_of(query)));
  std::string text = GREETING + path;
  if (path == "/environment") {
    const char* value = std::getenv(query.c_str());
    text = value ? value : "not set";
  }
  if (path == "/pid") text = std::to_string(::getpid());
  if (path == "/state") {
    Database& database = scope.state<Database>();
    text = database.name + " " + std::to_string(++database.queries);
  }
  co_await respond(send, 200, {{"content-type", "text/plain"}}, text);
}

Task<> lifespan(const Scope& scope, Receive receive, Send send) {
  co_await receive();
  if (std::getenv("FAIL_STARTUP")) {
    co_await send(StartupFailed{"first line\nno database here"});
    co_return;
  }
  scope.make_state<Database>(Database{"a database"});
  co_await send(StartupComplete{});
  co_await receive();
  std::puts("the database is closed");
  co_await send(ShutdownComplete{});
}

Task<> echo(const Scope& scope, Receive receive, Send send) {
  return scope.type() == ScopeType::lifespan ? lifespan(scope, receive, send)
                                             : request(scope, receive, send);
}

Task<> second(const Scope& scope, Receive, Send send) {
  if (scope.type() != ScopeType::http) co_return;
  co_await respond(send, 200, {}, "the second application");
}

}  // namespace

MGR_APPLICATION(echo);
MGR_APPLICATION_AS(second_application, second);
