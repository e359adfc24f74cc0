// What a call waits for: clients, time, the thread pool; and its end meanwhile.
#include <pthread.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/sdk/support.h"

namespace mgr::native {
namespace {

using namespace mgr::app;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

class Waiting : public ApplicationTest {
 protected:
  // One more request on a connection that stays.
  UniqueFd open(std::string_view path) {
    UniqueFd client = connect();
    send(client, "GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n\r\n");
    return client;
  }
};

struct Alive {
  explicit Alive(int& counter) : count(counter) { ++count; }
  ~Alive() { --count; }
  int& count;
};

// Holds threads of the pool until it is opened.
class Barrier {
 public:
  void wait() {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [this] { return open_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    opened_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = false;
};

TEST_F(Waiting, sleepers_wake_in_the_order_of_their_times) {
  std::vector<int> woken;
  serve([&woken](const Scope& scope, Receive, Send send) -> Task<> {
    const int delay = std::stoi(std::string(scope.query_string()));
    const auto began = steady_clock::now();
    co_await app::sleep(milliseconds(delay));
    EXPECT_GE(steady_clock::now() - began, milliseconds(delay));
    woken.push_back(delay);
    co_await respond(send, 200, {}, "awake");
  });
  std::vector<UniqueFd> clients;
  for (const int delay : {60, 20, 40, 0, 80, 30}) {
    clients.push_back(open("/?" + std::to_string(delay)));
  }
  turn_until([&] { return woken.size() == 6; });
  EXPECT_EQ(woken, (std::vector<int>{0, 20, 30, 40, 60, 80}));
}

TEST_F(Waiting, sleeping_for_no_time_lets_others_run) {
  bool stop = false;
  int turns = 0;
  serve([&](const Scope& scope, Receive, Send send) -> Task<> {
    if (scope.path() == "/stop") stop = true;
    for (; !stop; ++turns) co_await app::sleep(std::chrono::seconds(0));
    co_await respond(send, 200, {}, "stopped");
  });
  const UniqueFd spinning = open("/spin");
  turn_until([&] { return turns > 20; });
  const UniqueFd stopping = open("/stop");
  turn_until([&] { return stop; });
  read_until(spinning, [](const std::string& all) { return all.ends_with("stopped"); });
}

TEST_F(Waiting, a_very_long_sleep_is_no_overflow) {
  int alive = 0;
  serve([&alive](const Scope&, Receive, Send) -> Task<> {
    const Alive here(alive);
    co_await app::sleep(std::chrono::hours::max());
  });
  const UniqueFd client = open("/");
  turn_until([&] { return alive == 1; });
  for (int i = 0; i < 20; ++i) dispatcher->turn(milliseconds(1));
  EXPECT_EQ(alive, 1);
  dispatcher->cancel_requests();
  EXPECT_EQ(alive, 0);
}

TEST_F(Waiting, offload_runs_on_another_thread_and_gives_its_result) {
  serve([](const Scope&, Receive, Send send) -> Task<> {
    const std::thread::id here = std::this_thread::get_id();
    const auto there = co_await offload([] { return std::this_thread::get_id(); });
    EXPECT_NE(here, there);
    EXPECT_EQ(here, std::this_thread::get_id());
    const auto joined = co_await offload(
        [](const std::string& a, std::unique_ptr<int> b) { return a + std::to_string(*b); },
        std::string("number "), std::make_unique<int>(7));
    bool ran = false;
    co_await offload([&ran] { ran = true; });
    EXPECT_TRUE(ran);
    std::string thrown;
    try {
      co_await offload([]() -> int { throw std::domain_error("of the pool"); });
    } catch (const std::domain_error& error) {
      thrown = error.what();
    }
    co_await respond(send, 200, {}, joined + ", " + thrown);
  });
  EXPECT_TRUE(get("/").ends_with("number 7, of the pool"));
}

TEST_F(Waiting, the_loop_goes_on_while_the_pool_works_and_the_pool_is_bounded) {
  Barrier barrier;
  std::atomic<int> running = 0;
  std::atomic<int> most = 0;
  int done = 0;
  serve([&](const Scope& scope, Receive, Send send) -> Task<> {
    if (scope.path() == "/work") {
      co_await offload([&] {
        most = std::max(most.load(), ++running);
        barrier.wait();
        --running;
      });
      ++done;
    }
    co_await respond(send, 200, {}, "ok");
  });
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(open("/work"));
  turn_until([&] { return running == 8; });
  EXPECT_TRUE(get("/other").ends_with("ok"));
  EXPECT_EQ(done, 0);
  barrier.open();
  turn_until([&] { return done == 20; });
  EXPECT_EQ(most, 8);
}

TEST_F(Waiting, send_waits_while_the_client_does_not_read) {
  std::size_t sent = 0;
  serve([&sent](const Scope&, Receive, Send send) -> Task<> {
    const std::string part(64 * 1024, 'x');
    co_await send(ResponseStart{200});
    for (int i = 0; i < 400; ++i) {
      co_await send(ResponseBody{part, true});
      sent += part.size();
    }
    co_await send(ResponseBody{});
  });
  const UniqueFd client = open("/");
  std::size_t before = 1;
  while (sent != before) {
    before = sent;
    for (int i = 0; i < 20; ++i) dispatcher->turn(milliseconds(1));
  }
  EXPECT_LT(sent, 20u << 20) << "a client that reads nothing is sent what the kernel takes";
  std::size_t received = 0;
  read_until(client, [&](const std::string& all) {
    received = all.size();
    return all.ends_with("0\r\n\r\n");
  });
  EXPECT_GT(received, 400u * 64 * 1024);
}

TEST_F(Waiting, receive_tells_that_the_client_is_gone) {
  bool told = false;
  serve([&told](const Scope&, Receive receive, Send) -> Task<> {
    for (;;) {
      const Message message = co_await receive();
      if (message.type == Message::Type::disconnect) break;
    }
    told = true;
  });
  {
    const UniqueFd client = open("/");
    for (int i = 0; i < 5; ++i) dispatcher->turn(milliseconds(1));
    EXPECT_FALSE(told);
    const linger reset{1, 0};
    ::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  turn_until([&] { return told; });
}

TEST_F(Waiting, send_throws_when_the_client_is_gone_and_only_the_debug_log_tells) {
  int alive = 0;
  int begun = 0;
  serve([&](const Scope&, Receive, Send send) -> Task<> {
    const Alive here(alive);
    ++begun;
    const std::string part(64 * 1024, 'x');
    co_await send(ResponseStart{200});
    for (;;) co_await send(ResponseBody{part, true});
  });
  {
    const UniqueFd client = open("/endless");
    turn_until([&] { return begun == 1; });
    const linger reset{1, 0};
    ::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  turn_until([&] { return alive == 0; });
  EXPECT_NE(logged().find("[debug] GET /endless: the client has disconnected"), std::string::npos)
      << logged();
  EXPECT_EQ(logged().find("[error]"), std::string::npos) << logged();
}

TEST_F(Waiting, cancelling_runs_the_destructors_of_all_that_wait) {
  int alive = 0;
  Barrier barrier;
  serve([&](const Scope& scope, Receive receive, Send send) -> Task<> {
    const Alive here(alive);
    const auto inner = [&]() -> Task<> {
      const Alive deeper(alive);
      if (scope.path() == "/sleep") co_await app::sleep(std::chrono::hours(1));
      if (scope.path() == "/offload") co_await offload([&barrier] { barrier.wait(); });
      if (scope.path() == "/receive") {
        for (;;) co_await receive();
      }
    };
    co_await inner();
    co_await respond(send, 200, {}, "never");
  });
  std::vector<UniqueFd> clients;
  for (const char* path : {"/sleep", "/offload", "/receive"}) clients.push_back(open(path));
  turn_until([&] { return alive == 6 && dispatcher->pool().running() == 1; });
  dispatcher->cancel_requests();
  EXPECT_EQ(alive, 0);
  barrier.open();  // the abandoned call ends, and its result is freed
  turn_until([&] { return dispatcher->pool().running() == 0; });
}

TEST_F(Waiting, queued_offloads_of_cancelled_calls_never_run) {
  Barrier barrier;
  std::atomic<int> ran = 0;
  int asked = 0;
  serve([&](const Scope&, Receive, Send send) -> Task<> {
    ++asked;
    co_await offload([&] {
      ++ran;
      barrier.wait();
    });
    co_await respond(send, 200, {}, "never");
  });
  std::vector<UniqueFd> clients;
  int requests = 0;
  for (; requests < 30; ++requests) clients.push_back(open("/"));
  turn_until([&] { return ran == 8 && asked == requests; });
  dispatcher->cancel_requests();
  barrier.open();
  turn_until([&] { return dispatcher->pool().running() == 0; });
  EXPECT_EQ(ran, 8);
}

TEST_F(Waiting, an_offload_that_does_not_end_is_told_of_in_time) {
  auto barrier = std::make_shared<Barrier>();
  serve([&](const Scope&, Receive, Send) -> Task<> {
    const auto wait = [barrier] { barrier->wait(); };
    co_await offload(wait);
  });
  const UniqueFd client = open("/");
  turn_until([&] { return dispatcher->pool().running() == 1; });
  dispatcher->cancel_requests();
  EXPECT_FALSE(dispatcher->close(milliseconds(20)));
  barrier->open();
}

TEST(OutsideOfACall, sleep_and_offload_say_so) {
  EXPECT_THROW((void)offload([] { return 1; }), std::logic_error);
  const auto sleeping = []() -> Task<> { co_await app::sleep(milliseconds(1)); };
  const Task<> task = sleeping();
  task.start();
  ASSERT_TRUE(task.done());
  EXPECT_THROW(task.take(), std::logic_error);
}

}  // namespace
}  // namespace mgr::native
