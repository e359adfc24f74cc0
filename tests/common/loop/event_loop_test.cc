#include "common/loop/event_loop.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <thread>

#include "common/base/unique_fd.h"

namespace mgr {
namespace {

using std::chrono::milliseconds;

struct SocketPair {
  SocketPair() {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    one.reset(fds[0]);
    other.reset(fds[1]);
  }
  UniqueFd one;
  UniqueFd other;
};

TEST(EventLoop, ends_when_nothing_is_left_to_wait_for) {
  EventLoop loop;
  loop.run();
  int fired = 0;
  Timer timer(loop, [&] { ++fired; });
  timer.start(milliseconds(1));
  loop.run();
  EXPECT_EQ(fired, 1);
}

TEST(EventLoop, stops_when_told_to) {
  EventLoop loop;
  int fired = 0;
  Timer timer(loop, [&] {
    if (++fired == 3) loop.stop();
  });
  timer.start_repeating(milliseconds(1));
  loop.run();
  EXPECT_EQ(fired, 3);
}

TEST(EventLoop, aborts_when_a_handle_is_left_behind) {
  EXPECT_DEATH(
      {
        std::optional<Timer> timer;
        EventLoop loop;
        timer.emplace(loop, [] {});
      },
      "uv_loop_close");
}

TEST(Timer, is_active_until_it_fires_or_stops) {
  EventLoop loop;
  Timer timer(loop, [] {});
  EXPECT_FALSE(timer.active());
  timer.start(milliseconds(1));
  EXPECT_TRUE(timer.active());
  loop.run();
  EXPECT_FALSE(timer.active());
  timer.start(milliseconds(100'000));
  timer.stop();
  EXPECT_FALSE(timer.active());
  loop.run();
}

TEST(Timer, may_be_destroyed_or_restarted_by_its_own_callback) {
  EventLoop loop;
  std::optional<Timer> timer;
  int fired = 0;
  timer.emplace(loop, [&] {
    if (++fired < 3) {
      timer->start(milliseconds(1));
    } else {
      timer.reset();
    }
  });
  timer->start(milliseconds(1));
  loop.run();
  EXPECT_EQ(fired, 3);
}

TEST(Timer, that_is_destroyed_does_not_fire) {
  EventLoop loop;
  bool fired = false;
  {
    Timer timer(loop, [&] { fired = true; });
    timer.start(milliseconds(0));
  }
  loop.run();
  EXPECT_FALSE(fired);
}

TEST(Timer, that_is_unreferenced_does_not_keep_the_loop) {
  EventLoop loop;
  Timer timer(loop, [] {});
  timer.unref();
  timer.start(milliseconds(100'000));
  loop.run();
}

TEST(FdWatcher, tells_input_output_and_disconnect) {
  EventLoop loop;
  SocketPair pair;
  int seen = 0;
  FdWatcher watcher(loop, pair.one.get(), [&](int status, int events) {
    EXPECT_EQ(status, 0);
    seen = events;
  });
  watcher.start(FdWatcher::kReadable);
  loop.run_nowait();
  EXPECT_EQ(seen, 0);
  ASSERT_EQ(::send(pair.other.get(), "x", 1, 0), 1);
  loop.run_once();
  EXPECT_EQ(seen, FdWatcher::kReadable);
  watcher.start(FdWatcher::kWritable);
  loop.run_once();
  EXPECT_EQ(seen, FdWatcher::kWritable);
  watcher.start(FdWatcher::kDisconnect);
  ::shutdown(pair.other.get(), SHUT_WR);
  loop.run_once();
  EXPECT_EQ(seen, FdWatcher::kDisconnect);
}

TEST(FdWatcher, for_errors_alone_is_silent_about_a_closed_direction_and_tells_a_hang_up) {
  EventLoop loop;
  SocketPair pair;
  int calls = 0;
  FdWatcher watcher(loop, pair.one.get(), [&](int, int) { ++calls; });
  watcher.start(FdWatcher::kErrors);
  ::shutdown(pair.other.get(), SHUT_WR);
  for (int i = 0; i < 3; ++i) loop.run_nowait();
  EXPECT_EQ(calls, 0);
  pair.other.reset();
  loop.run_once();
  EXPECT_GE(calls, 1);
}

TEST(FdWatcher, may_be_destroyed_by_its_own_callback_and_its_number_used_again) {
  EventLoop loop;
  std::optional<FdWatcher> watcher;
  std::optional<SocketPair> pair(std::in_place);
  const int number = pair->one.get();
  watcher.emplace(loop, number, [&](int, int) {
    watcher.reset();
    pair.reset();
  });
  watcher->start(FdWatcher::kReadable);
  ASSERT_EQ(::send(pair->other.get(), "x", 1, 0), 1);
  loop.run_once();
  ASSERT_FALSE(watcher);
  SocketPair next;
  ASSERT_EQ(next.one.get(), number);
  bool seen = false;
  FdWatcher again(loop, next.one.get(), [&](int, int) { seen = true; });
  again.start(FdWatcher::kReadable);
  ASSERT_EQ(::send(next.other.get(), "x", 1, 0), 1);
  loop.run_once();
  EXPECT_TRUE(seen);
}

TEST(Wakeup, wakes_the_loop_from_another_thread) {
  EventLoop loop;
  int woken = 0;
  Wakeup wakeup(loop, [&] {
    ++woken;
    loop.stop();
  });
  std::thread other([&] { wakeup.send(); });
  loop.run();
  other.join();
  EXPECT_EQ(woken, 1);
}

TEST(SignalWatcher, delivers_inside_the_loop) {
  EventLoop loop;
  int seen = 0;
  SignalWatcher watcher(loop, SIGUSR1, [&] {
    ++seen;
    loop.stop();
  });
  ::raise(SIGUSR1);
  EXPECT_EQ(seen, 0);
  loop.run();
  EXPECT_EQ(seen, 1);
}

TEST(TurnWatcher, calls_before_and_after_each_wait) {
  EventLoop loop;
  std::string order;
  TurnWatcher watcher(
      loop, [&] { order += 'b'; }, [&] { order += 'a'; });
  Timer timer(loop, [&] { order += 't'; });
  timer.start(milliseconds(2));
  loop.run();
  EXPECT_TRUE(order.starts_with("ba")) << order;
  EXPECT_NE(order.find('t'), std::string::npos);
}

TEST(WaitWatcher, tells_the_end_of_the_wait_before_the_callback_of_a_descriptor) {
  EventLoop loop;
  std::string order;
  SocketPair pair;
  WaitWatcher waits(
      loop, [&] { order += 'b'; }, [&] { order += 'a'; });
  FdWatcher watcher(loop, pair.one.get(), [&](int, int) { order += 'd'; });
  watcher.start(FdWatcher::kReadable);
  loop.run_nowait();
  EXPECT_EQ(order, "ba");
  ASSERT_EQ(::write(pair.other.get(), "x", 1), 1);
  loop.run_once();
  EXPECT_EQ(order, "babad");
}

}  // namespace
}  // namespace mgr
