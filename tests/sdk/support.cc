#include "tests/sdk/support.h"

#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace mgr::native {
namespace {

Handler& current() {
  static Handler handler;
  return handler;
}

app::Task<> application(const app::Scope& scope, app::Receive receive, app::Send send) {
  return current()(scope, receive, send);
}

sockaddr_in loopback() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

ApplicationTest::~ApplicationTest() {
  if (!dispatcher) return;
  worker_->server().close_connections();
  dispatcher->cancel_requests();
  if (lifespan) lifespan->cancel();
  EXPECT_TRUE(dispatcher->close(milliseconds(5000)));
  worker_.reset();
}

void ApplicationTest::serve(Handler handler, LifespanMode mode) {
  current() = std::move(handler);
  log_file_ = UniqueFd(::memfd_create("log", MFD_CLOEXEC));
  log_.emplace(log_file_.get(), LogFormat::text, LogLevel::debug, "worker 0");
  auto pair = ipc::Channel::pair();
  ASSERT_TRUE(pair);
  supervisor_.emplace(std::move(pair->first));
  dispatcher.emplace(settings.root_path, *log_);
  lifespan.emplace(*dispatcher, mode);
  worker::Identity identity{pair->second.release(), 0, 0, ::getppid()};
  worker_.emplace(std::move(identity), settings, *dispatcher, *dispatcher, board_->record(0),
                  *log_);
  dispatcher->attach(*worker_);
  static const mgr_application_table table = app::detail::kTable<&application>;
  ASSERT_TRUE(dispatcher->open(table));
  lifespan->start_up();
  turn_until([this] { return lifespan->started(); });

  listener_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in address = loopback();
  ASSERT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener_.get(), 64), 0);
  worker_->server().add_listener(1, UniqueFd(::dup(listener_.get())), "127.0.0.1:0",
                                 server::Server::Sharing::own);
}

void ApplicationTest::turn_until(const std::function<bool()>& done, milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!done()) {
    ASSERT_LT(std::chrono::steady_clock::now(), end) << "not reached; the log:\n" << logged();
    dispatcher->turn(milliseconds(1));
  }
}

UniqueFd ApplicationTest::connect() {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  return client;
}

void ApplicationTest::send(const UniqueFd& client, std::string_view bytes) {
  ASSERT_EQ(::send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
}

std::string ApplicationTest::read_until(const UniqueFd& client,
                                        const std::function<bool(const std::string&)>& done) {
  std::string all;
  bool ended = false;
  const auto more = [&] {
    std::array<char, 65536> part;
    ssize_t n;
    while ((n = ::recv(client.get(), part.data(), part.size(), MSG_DONTWAIT)) > 0) {
      all.append(part.data(), static_cast<std::size_t>(n));
    }
    if (n == 0 || errno != EAGAIN) ended = true;
    return ended || done(all);
  };
  turn_until(more);
  return all;
}

std::string ApplicationTest::ask(std::string_view request) {
  const UniqueFd client = connect();
  send(client, request);
  return read_until(client, [](const std::string&) { return false; });
}

std::string ApplicationTest::get(std::string_view path) {
  return ask("GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
}

std::string ApplicationTest::logged() {
  std::string text(1 << 16, '\0');
  const ssize_t n = ::pread(log_file_.get(), text.data(), text.size(), 0);
  text.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  return text;
}

}  // namespace mgr::native
