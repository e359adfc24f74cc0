#include "worker/life/worker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "common/ipc/scoreboard.h"

namespace mgr::worker {
namespace {

using std::chrono::milliseconds;

// Answers every request at once.
class Hello final : public server::Application {
 public:
  void on_request(server::Exchange& exchange) noexcept override {
    if (takes.count() > 0) ::usleep(static_cast<useconds_t>(takes.count() * 1000));
    exchange.respond(200, "text/plain", "hello");
    exchange.release();
  }
  milliseconds takes{0};
};

class RecordingHost final : public Host {
 public:
  void on_leave(Leave how) noexcept override { left.push_back(how); }
  std::vector<Leave> left;
};

// A worker in this process; the test is its supervisor.
class WorkerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto pair = ipc::Channel::pair();
    ASSERT_TRUE(pair);
    supervisor.emplace(std::move(pair->first));
    settings.graceful_timeout = milliseconds(60'000);
    Identity identity{pair->second.release(), 0, 0, ::getppid(), {}, 2};
    worker.emplace(std::move(identity), settings, application, host, board->record(0), log);
  }

  void order(const ipc::WorkerCommand& command, const std::vector<int>& descriptors = {}) {
    ASSERT_EQ(supervisor->send(ipc::encode(command), descriptors), ipc::Channel::SendResult::sent);
    turn();
  }

  void turn() {
    for (int i = 0; i < 5; ++i) worker->run(milliseconds(0));
  }

  template <typename Message>
  Message answer() {
    ipc::Record record;
    EXPECT_EQ(supervisor->receive(record), ipc::Channel::ReceiveResult::received);
    auto message = ipc::decode_worker_message(record.text);
    EXPECT_TRUE(message);
    return std::get<Message>(*message);
  }

  bool silent() {
    ipc::Record record;
    return supervisor->receive(record) == ipc::Channel::ReceiveResult::none;
  }

  void listen() {
    UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(socket.get(), 16), 0);
    ipc::Listen message;
    message.entries.push_back({1, "127.0.0.1:0", false});
    order(message, {socket.get()});
    listening = std::move(socket);
  }

  // One request and its response.
  void get() {
    sockaddr_in address{};
    socklen_t length = sizeof address;
    ASSERT_EQ(::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    const std::string_view request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    ASSERT_EQ(::send(client.get(), request.data(), request.size(), 0),
              static_cast<ssize_t>(request.size()));
    std::array<char, 1024> answer;
    ssize_t received = -1;
    for (int i = 0; i < 200 && received < 0; ++i) {
      worker->run(milliseconds(10));
      received = ::recv(client.get(), answer.data(), answer.size(), MSG_DONTWAIT);
    }
    ASSERT_GT(received, 0);
  }

  Result<ipc::Scoreboard> board = ipc::Scoreboard::create();
  Log log{STDERR_FILENO, LogFormat::text, LogLevel::error, "worker 0"};
  Settings settings;
  Hello application;
  RecordingHost host;
  UniqueFd listening;
  std::optional<ipc::Channel> supervisor;
  std::optional<Worker> worker;
};

TEST_F(WorkerTest, IsBootingUntilTheHostSaysOtherwise) {
  EXPECT_EQ(worker->state(), State::booting);
  EXPECT_TRUE(silent());
  worker->booted("asgi");
  EXPECT_EQ(worker->state(), State::ready);
  EXPECT_EQ(answer<ipc::Ready>().interface, "asgi");
}

TEST_F(WorkerTest, SaysOnceThatItHasAnsweredItsRequests) {
  worker->booted("asgi");
  answer<ipc::Ready>();
  listen();
  get();
  turn();
  EXPECT_TRUE(silent());
  get();
  turn();
  answer<ipc::Spent>();
  get();
  turn();
  EXPECT_TRUE(silent());
}

TEST_F(WorkerTest, WaitsNoLongerForATimerThatWasDueBeforeTheWaitBegan) {
  Timer due(worker->loop(), [this] { worker->wake(); });
  due.start(milliseconds(0));
  const auto before = std::chrono::steady_clock::now();
  worker->run(milliseconds(10'000));
  EXPECT_LT(std::chrono::steady_clock::now() - before, milliseconds(5000));
}

TEST_F(WorkerTest, TellsWhyItCouldNotBoot) {
  worker->boot_failed(ipc::BootFailed{"lifespan", "no database", 3}, "Traceback …");
  ipc::Record record;
  ASSERT_EQ(supervisor->receive(record), ipc::Channel::ReceiveResult::received);
  ASSERT_EQ(record.descriptors.size(), 1u);
  EXPECT_EQ(*ipc::read_all(record.descriptors[0].get()), "Traceback …");
}

TEST_F(WorkerTest, HoldsAndServesAgain) {
  worker->booted("asgi");
  answer<ipc::Ready>();
  listen();
  EXPECT_EQ(worker->state(), State::serving);
  EXPECT_TRUE(worker->server().has_listener(1));
  order(ipc::Hold{});
  answer<ipc::StoppedAccepting>();
  EXPECT_EQ(worker->state(), State::holding);
  EXPECT_FALSE(worker->server().has_listener(1));
  listen();
  EXPECT_EQ(worker->state(), State::serving);
}

TEST_F(WorkerTest, DrainsAndIsIdleAtOnceWithoutConnections) {
  worker->booted("asgi");
  answer<ipc::Ready>();
  listen();
  order(ipc::Drain{false, 5000});
  answer<ipc::StoppedAccepting>();
  turn();
  EXPECT_EQ(worker->state(), State::leaving);
  EXPECT_EQ(host.left, std::vector{Leave::shut_down});
  EXPECT_GT(worker->time_to_leave(), milliseconds(1000));
}

TEST_F(WorkerTest, TakesTheEndOfItsChannelForADrain) {
  worker->booted("asgi");
  supervisor->close();
  turn();
  EXPECT_EQ(worker->state(), State::leaving);
  EXPECT_EQ(host.left, std::vector{Leave::shut_down});
}

TEST_F(WorkerTest, QuitsWithoutLifespan) {
  worker->booted("asgi");
  answer<ipc::Ready>();
  order(ipc::Quit{});
  EXPECT_EQ(host.left, std::vector{Leave::now});
}

TEST_F(WorkerTest, LogsAndIgnoresRecordsThatItDoesNotKnow) {
  ASSERT_EQ(supervisor->send("{\"v\":1,\"type\":\"dance\"}"), ipc::Channel::SendResult::sent);
  ASSERT_EQ(supervisor->send("nonsense"), ipc::Channel::SendResult::sent);
  turn();
  EXPECT_EQ(worker->state(), State::booting);
}

TEST_F(WorkerTest, RefusesAListenWhoseSocketsDidNotCome) {
  worker->booted("asgi");
  ipc::Listen message;
  message.entries.push_back({1, "127.0.0.1:0", false});
  order(message);
  EXPECT_FALSE(worker->server().has_listener(1));
}

TEST_F(WorkerTest, RunReturnsAfterItsTimeout) {
  const auto before = ipc::monotonic_ns();
  worker->run(milliseconds(30));
  const auto waited = (ipc::monotonic_ns() - before) / 1'000'000;
  EXPECT_GE(waited, 29u);
  EXPECT_LT(waited, 3000u);
}

TEST_F(WorkerTest, RunReturnsWhenTheWatchedDescriptorIsReadable) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  UniqueFd reading(fds[0]), writing(fds[1]);
  worker->watch(reading.get());
  EXPECT_FALSE(worker->take_watched_ready());
  ASSERT_EQ(::write(writing.get(), "x", 1), 1);
  worker->run(std::nullopt);
  EXPECT_TRUE(worker->take_watched_ready());
  worker->watch(-1);
  worker->run(milliseconds(0));
  EXPECT_FALSE(worker->take_watched_ready());
}

TEST_F(WorkerTest, CountsWhatTheCallbacksOfDescriptorsTakeAsBusyTimeAndLag) {
  worker->booted("asgi");
  listen();
  application.takes = milliseconds(50);
  const ipc::WorkerRecord& record = board->record(0);
  const auto before = ipc::busy_ns(record, ipc::monotonic_ns());
  get();
  EXPECT_GE(ipc::busy_ns(record, ipc::monotonic_ns()) - before, 50'000'000u);
  EXPECT_GE(ipc::loop_lag_ns(record, ipc::monotonic_ns()), 50'000'000u);
  EXPECT_EQ(record.durations[7].load(), 1u) << "50 to 100 ms";
}

TEST_F(WorkerTest, AccountsForItsBusyTimeInTheScoreboard) {
  const ipc::WorkerRecord& record = board->record(0);
  EXPECT_EQ(record.pid.load(), ::getpid());
  worker->run(milliseconds(0));
  const auto before = record.busy_ns.load();
  worker->run(milliseconds(50));
  EXPECT_LT(record.busy_ns.load() - before, 40'000'000u);
  EXPECT_NE(record.running_since_ns.load(), 0u);
}

}  // namespace
}  // namespace mgr::worker
