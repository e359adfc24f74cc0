#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "tests/common/server/support.h"

namespace mgr::server {
namespace {

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

class Listening : public ServerTest {};

TEST_F(Listening, goes_on_with_several_listeners_and_without_one) {
  start();
  int second_port = 0;
  server->add_listener(2, listen_on_loopback(second_port), "127.0.0.1:0", Server::Sharing::own);
  EXPECT_EQ(status_of(kGet), 200);
  std::swap(port, second_port);
  EXPECT_EQ(status_of(kGet), 200);
  server->remove_listener(2, Server::Queued::leave);
  EXPECT_FALSE(server->has_listener(2));
  EXPECT_TRUE(server->has_listener(1));
  std::swap(port, second_port);
  EXPECT_EQ(status_of(kGet), 200);
  server->remove_listener(7, Server::Queued::leave);
  server->remove_all_listeners(Server::Queued::leave);
  EXPECT_FALSE(server->has_listener(1));
}

TEST_F(Listening, takes_few_connections_in_a_turn_and_more_only_while_it_finds_them) {
  start();
  std::vector<Client> clients;
  const auto after_a_turn = [this] {
    loop.run_nowait();
    return server->connections();
  };
  for (int i = 0; i < 12; ++i) clients.push_back(connect());
  EXPECT_EQ(after_a_turn(), 1u);
  EXPECT_EQ(after_a_turn(), 3u);
  EXPECT_EQ(after_a_turn(), 7u);
  EXPECT_EQ(after_a_turn(), 11u);
  EXPECT_EQ(after_a_turn(), 12u);
  EXPECT_EQ(counters.connections.load(), 12u);
  for (int i = 0; i < 2; ++i) clients.push_back(connect());
  EXPECT_EQ(after_a_turn(), 13u);
  EXPECT_EQ(after_a_turn(), 14u);
}

TEST_F(Listening, a_connection_to_a_wildcard_says_itself_where_it_came_to) {
  server = std::make_unique<Server>(loop, ServerOptions{}, application, counters, log);
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::listen(fd.get(), 8), 0);  // binds to any address and a free port
  sockaddr_in bound{};
  socklen_t length = sizeof bound;
  ASSERT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &length), 0);
  ASSERT_EQ(bound.sin_addr.s_addr, htonl(INADDR_ANY));
  port = ntohs(bound.sin_port);
  server->add_listener(1, std::move(fd), "0.0.0.0:0", Server::Sharing::own);
  std::string seen;
  application.handlers["/"] = [&](Exchange& exchange) {
    const Endpoint& to = *exchange.request().server;
    seen = to.host + ":" + std::to_string(to.port);
    answer(exchange, 200, "");
  };
  EXPECT_EQ(status_of(kGet), 200);
  EXPECT_EQ(seen, "127.0.0.1:" + std::to_string(port));
}

bool has_nodelay(int fd) {
  int on = 0;
  socklen_t length = sizeof on;
  EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &length), 0);
  return on != 0;
}

// The accepted sockets of this process with their peer at `port`.
std::vector<int> sockets_to(int port) {
  std::vector<int> found;
  for (int fd = 3; fd < 256; ++fd) {
    sockaddr_in peer{};
    socklen_t length = sizeof peer;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0) continue;
    if (peer.sin_family == AF_INET && ntohs(peer.sin_port) == port) found.push_back(fd);
  }
  return found;
}

class Delays : public ServerTest, public testing::WithParamInterface<bool> {};

TEST_P(Delays, are_off_for_each_connection_whoever_opened_the_listener) {
  server = std::make_unique<Server>(loop, ServerOptions{}, application, counters, log);
  UniqueFd fd = listen_on_loopback(port);
  const int on = GetParam();
  ASSERT_EQ(::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
  server->add_listener(1, std::move(fd), "127.0.0.1:0", Server::Sharing::own);
  Client client = connect();
  sockaddr_in own{};
  socklen_t length = sizeof own;
  ASSERT_EQ(::getsockname(client.fd(), reinterpret_cast<sockaddr*>(&own), &length), 0);
  ASSERT_TRUE(turn_until([&] { return server->connections() == 1; }));
  const std::vector<int> accepted = sockets_to(ntohs(own.sin_port));
  ASSERT_EQ(accepted.size(), 1u);
  EXPECT_TRUE(has_nodelay(accepted.front()));
}

INSTANTIATE_TEST_SUITE_P(WithAndWithout, Delays, testing::Bool());

TEST_F(Listening, takes_no_more_connections_than_its_limit_and_goes_on_when_one_has_gone) {
  ServerOptions options;
  options.limit_connections = 3;
  start(options);
  std::vector<Client> clients;
  for (int i = 0; i < 5; ++i) clients.push_back(connect());
  turn_for(milliseconds(50));
  EXPECT_EQ(server->connections(), 3u);
  for (int i = 0; i < 3; ++i) {
    clients[static_cast<std::size_t>(i)].send(kGet);
    EXPECT_EQ(clients[static_cast<std::size_t>(i)].response().status, 200);
  }
  clients[1].close();
  clients[3].send(kGet);
  EXPECT_EQ(clients[3].response().status, 200) << "it waited in the queue";
  EXPECT_EQ(server->connections(), 3u);
  clients[0].close();
  clients[2].close();
  clients[4].send(kGet);
  EXPECT_EQ(clients[4].response().status, 200);
  EXPECT_TRUE(turn_until([&] { return server->connections() == 2; }));
}

TEST_F(Listening, keeps_its_limit_with_a_shared_socket_too) {
  ServerOptions options;
  options.limit_connections = 1;
  start_unix(options);
  Client first = connect();
  ASSERT_TRUE(turn_until([&] { return server->connections() == 1; }));
  Client second = connect();
  server->try_accept();
  turn_for(milliseconds(50));
  EXPECT_EQ(server->connections(), 1u);
  first.close();
  second.send(kGet);
  EXPECT_EQ(second.response().status, 200);
}

TEST_F(Listening, keeps_its_limit_with_a_listener_that_comes_later) {
  ServerOptions options;
  options.limit_connections = 1;
  start(options);
  Client first = connect();
  ASSERT_TRUE(turn_until([&] { return server->connections() == 1; }));
  server->add_listener(2, listen_on_loopback(port), "127.0.0.1:0", Server::Sharing::own);
  Client second = connect();
  turn_for(milliseconds(50));
  EXPECT_EQ(server->connections(), 1u);
  first.close();
  second.send(kGet);
  EXPECT_EQ(second.response().status, 200);
}

TEST_F(Listening, takes_the_queue_when_told_to_on_leaving) {
  start();
  std::vector<Client> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(connect());
  server->remove_listener(1, Server::Queued::take);
  EXPECT_EQ(server->connections(), 20u);
  for (Client& client : clients) {
    client.send(kGet);
    EXPECT_EQ(client.response().status, 200);
  }
}

TEST_F(Listening, leaves_the_queue_to_another_holder_of_the_socket) {
  server = std::make_unique<Server>(loop, ServerOptions{}, application, counters, log);
  UniqueFd kept = listen_on_loopback(port);
  server->add_listener(1, UniqueFd(::dup(kept.get())), "x", Server::Sharing::own);
  std::vector<Client> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(connect());
  server->remove_listener(1, Server::Queued::leave);
  EXPECT_EQ(server->connections(), 0u);
  server->add_listener(2, std::move(kept), "x", Server::Sharing::own);
  for (Client& client : clients) {
    client.send(kGet);
    EXPECT_EQ(client.response().status, 200);
  }
}

TEST_F(Listening, on_a_shared_socket_serves_and_takes_the_queue_on_leaving) {
  start_unix();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(status_of(kGet), 200);
  std::vector<Client> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(connect());
  const std::size_t before = server->connections();
  server->remove_listener(1, Server::Queued::leave);
  EXPECT_EQ(server->connections(), before + 10);
}

TEST_F(Listening, on_a_shared_socket_tries_when_told_to) {
  start_unix();
  Client client = connect();
  server->try_accept();
  EXPECT_EQ(server->connections(), 1u);
  server->try_accept();
  EXPECT_EQ(status_of(kGet), 200);
}

TEST_F(Listening, pauses_without_descriptors_says_so_once_and_goes_on) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd log_out(ends[0]);
  const UniqueFd log_in(ends[1]);
  log = Log(log_in.get(), LogFormat::text, LogLevel::info, "test");
  start();
  Client client = connect();
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit before = limit;
  limit.rlim_cur = static_cast<rlim_t>(client.fd()) + 1;  // all below are taken
  for (int fd = ::dup(0); fd >= 0 && fd < client.fd(); fd = ::dup(0)) {
  }
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  int turns = 0;
  {
    TurnWatcher watcher(
        loop, [] {}, [&] { ++turns; });
    Timer end(loop, [] {});
    end.start(milliseconds(800));
    while (end.active()) loop.run_once();
  }
  EXPECT_LT(turns, 20) << "it does not spin";
  EXPECT_EQ(server->connections(), 0u);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  client.send(kGet);
  EXPECT_EQ(client.response().status, 200);
  std::vector<char> buffer(65536);
  const ssize_t n = ::read(log_out.get(), buffer.data(), buffer.size());
  ASSERT_GT(n, 0);
  const std::string text(buffer.data(), static_cast<std::size_t>(n));
  EXPECT_NE(text.find("accept on 127.0.0.1:0: Too many open files"), std::string::npos) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

// A process that accepts from a shared socket until it is told to stop, then reports.
struct Sharer {
  pid_t pid = 0;
  UniqueFd stop;    // its end of output ends the process
  UniqueFd report;  // "ACCEPTED WAKE-UPS"
};

class Sharing : public ServerTest {
 protected:
  static void serve(int listener, int stop, int report) {
    EventLoop loop;
    TestApplication application;
    ipc::WorkerRecord counters;
    const Log log(2, LogFormat::text, LogLevel::error, "sharer");
    Server server(loop, {}, application, counters, log);
    server.add_listener(1, UniqueFd(listener), "unix:x", Server::Sharing::shared);
    bool stopped = false;
    FdWatcher end(loop, stop, [&](int, int) { stopped = true; });
    end.start(FdWatcher::kReadable);
    // Past the turns in which the registration is replaced.
    for (int i = 0; i < 20; ++i) {
      loop.run_nowait();
      ::usleep(1000);
    }
    ASSERT_EQ(::write(report, "ready\n", 6), 6);
    const long sleeps_before = sleeps();
    while (!stopped) loop.run_once();
    ::dprintf(report, "%llu %ld\n",
              static_cast<unsigned long long>(counters.connections_total.load()),
              sleeps() - sleeps_before);
  }
  // How often this process has gone to sleep: once more for each time that it was woken, even where
  // the kernel found nothing to return.
  static long sleeps() {
    rusage usage{};
    EXPECT_EQ(::getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_nvcsw;
  }
  Sharer spawn(int listener) {
    auto [ours, theirs] = pipe();
    auto [report, reporting] = pipe();
    Sharer sharer;
    sharer.pid = ::fork();
    if (sharer.pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ours.reset();
      serve(listener, theirs.get(), reporting.get());
      ::_exit(0);
    }
    sharer.stop = std::move(ours);
    sharer.report = std::move(report);
    return sharer;
  }
  // Writing end, reading end of the first; the other way round of the second.
  static std::pair<UniqueFd, UniqueFd> pipe() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    return {UniqueFd(ends[0]), UniqueFd(ends[1])};
  }
  static std::string line_of(const Sharer& sharer) {
    std::string line;
    char c;
    while (::read(sharer.report.get(), &c, 1) == 1 && c != '\n') line += c;
    return line;
  }
};

TEST_F(Sharing, two_processes_share_evenly_and_each_connection_wakes_one) {
  const std::string path = testing::TempDir() + "mgr-share-" + std::to_string(::getpid()) + ".sock";
  ::unlink(path.c_str());
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 512), 0);
  std::vector<Sharer> sharers;
  for (int i = 0; i < 2; ++i) {
    sharers.push_back(spawn(listener.get()));
    ASSERT_EQ(line_of(sharers.back()), "ready");
  }
  std::vector<UniqueFd> clients;
  constexpr int kConnections = 100;
  for (int i = 0; i < kConnections; ++i) {
    clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(
        ::connect(clients.back().get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ::usleep(2000);
  }
  for (Sharer& sharer : sharers) {
    ::shutdown(sharer.stop.get(), SHUT_RDWR);  // the other child may have a copy
    const std::string line = line_of(sharer);
    unsigned long long accepted = 0;
    long wake_ups = 0;
    ASSERT_EQ(::sscanf(line.c_str(), "%llu %ld", &accepted, &wake_ups), 2) << line;
    EXPECT_GE(accepted, 40u);
    EXPECT_LE(accepted, 60u);
    // One each, and some for the end and for the loop's own affairs.
    EXPECT_LE(wake_ups, static_cast<long>(accepted) + 15);
    int status = 0;
    EXPECT_EQ(::waitpid(sharer.pid, &status, 0), sharer.pid);
    EXPECT_EQ(status, 0);
  }
  ::unlink(path.c_str());
}

class Forking : public ServerTest {};

TEST_F(Forking, a_child_of_the_application_keeps_nothing_open_and_disturbs_nothing) {
  start();
  Client kept = connect();
  kept.send(kGet);
  EXPECT_EQ(kept.response().status, 200);
  Client closing = connect();
  closing.send_and_settle("GET / HTTP/1.1\r\n");
  auto ends = ipc::Channel::pair();
  ASSERT_TRUE(ends.ok());
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    server->close_in_forked_child();
    server.reset();
    ends->first.close();
    ipc::Record record;
    (void)ends->second.receive(record, ipc::Channel::Wait::yes);
    ::_exit(0);
  }
  ends->second.close();
  kept.send(kGet);
  EXPECT_EQ(kept.response().status, 200) << "the parent's epoll set is as it was";
  closing.half_close();
  closing.read_to_end();
  EXPECT_TRUE(closing.eof) << "the child has no copy that keeps the connection open";
  EXPECT_EQ(status_of(kGet), 200);
  server.reset();
  const UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  EXPECT_NE(::connect(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0)
      << "the child has no copy of the listening socket";
  ends->first.close();
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
}

}  // namespace
}  // namespace mgr::server
