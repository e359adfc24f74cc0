#include <gtest/gtest.h>
#include <mgr/task.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace mgr::app {
namespace {

// Suspends until the test resumes it.
struct Gate {
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept { waiting = coroutine; }
  void await_resume() const noexcept {}
  void open() { std::exchange(waiting, nullptr).resume(); }
  std::coroutine_handle<> waiting;
};

struct GateRef {
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept { gate.await_suspend(coroutine); }
  void await_resume() const noexcept {}
  Gate& gate;
};

// Counts itself in as long as it lives.
struct Alive {
  explicit Alive(int& counter) : count(counter) { ++count; }
  ~Alive() { --count; }
  int& count;
};

Task<int> number(int value) {
  co_return value;
}

Task<std::string> failing() {
  throw std::runtime_error("no such user");
  co_return "never";
}

TEST(Task, begins_when_it_is_awaited_and_gives_its_value) {
  bool begun = false;
  const auto child = [&]() -> Task<int> {
    begun = true;
    co_return 7;
  };
  const auto parent = [&]() -> Task<int> {
    Task<int> task = child();
    EXPECT_FALSE(begun);
    co_return co_await task + 1;
  };
  const Task<int> task = parent();
  EXPECT_FALSE(begun);
  task.start();
  ASSERT_TRUE(task.done());
  EXPECT_EQ(task.take(), 8);
}

TEST(Task, hands_on_what_the_awaited_one_throws) {
  const auto parent = []() -> Task<std::string> {
    try {
      co_return co_await failing();
    } catch (const std::runtime_error& error) {
      co_return std::string("caught ") + error.what();
    }
  };
  const Task<std::string> caught = parent();
  caught.start();
  EXPECT_EQ(caught.take(), "caught no such user");
  const Task<std::string> uncaught = failing();
  uncaught.start();
  EXPECT_THROW(uncaught.take(), std::runtime_error);
}

TEST(Task, gives_references_and_what_can_only_be_moved) {
  int target = 1;
  const auto reference = [&]() -> Task<int&> { co_return target; };
  const auto pointer = []() -> Task<std::unique_ptr<int>> { co_return std::make_unique<int>(5); };
  const auto parent = [&]() -> Task<> {
    int& got_reference = co_await reference();
    got_reference = 2;
    const std::unique_ptr<int> got = co_await pointer();
    target += *got;
  };
  const Task<> task = parent();
  task.start();
  task.take();
  EXPECT_EQ(target, 7);
}

TEST(Task, goes_on_where_the_innermost_was_suspended) {
  Gate gate;
  std::vector<std::string> order;
  const auto inner = [&]() -> Task<int> {
    order.push_back("inner begins");
    co_await GateRef{gate};
    order.push_back("inner ends");
    co_return 3;
  };
  const auto outer = [&]() -> Task<> {
    const int value = co_await inner();
    order.push_back("outer has " + std::to_string(value));
  };
  const Task<> task = outer();
  task.start();
  EXPECT_FALSE(task.done());
  gate.open();
  EXPECT_TRUE(task.done());
  EXPECT_EQ(order, (std::vector<std::string>{"inner begins", "inner ends", "outer has 3"}));
}

TEST(Task, a_million_awaited_ones_need_no_stack) {
  const auto parent = []() -> Task<long> {
    long sum = 0;
    for (int i = 0; i < 1'000'000; ++i) sum += co_await number(1);
    co_return sum;
  };
  const Task<long> task = parent();
  task.start();
  EXPECT_EQ(task.take(), 1'000'000);
}

TEST(Task, a_hundred_thousand_that_were_suspended_need_no_stack) {
  Gate gate;
  const auto child = [&]() -> Task<> { co_await GateRef{gate}; };
  const auto parent = [&]() -> Task<> {
    for (int i = 0; i < 100'000; ++i) co_await child();
  };
  const Task<> task = parent();
  task.start();
  while (!task.done()) gate.open();
  SUCCEED();
}

TEST(Task, destroying_it_runs_the_destructors_of_all_that_it_awaits) {
  int alive = 0;
  Gate gate;
  const auto inner = [&]() -> Task<> {
    const Alive here(alive);
    co_await GateRef{gate};
  };
  const auto outer = [&]() -> Task<> {
    const Alive here(alive);
    co_await inner();
  };
  {
    const Task<> task = outer();
    task.start();
    EXPECT_EQ(alive, 2);
  }
  EXPECT_EQ(alive, 0);
}

TEST(Task, one_that_was_never_begun_costs_nothing_but_its_parameters) {
  auto shared = std::make_shared<int>(1);
  {
    const auto task = [](std::shared_ptr<int>) -> Task<> { co_return; }(shared);
    EXPECT_EQ(shared.use_count(), 2);
  }
  EXPECT_EQ(shared.use_count(), 1);
}

TEST(Frames, of_one_size_are_used_again) {
  if (!detail::kRecycleFrames) GTEST_SKIP() << "not under the address sanitizer";
  void* first = detail::Frames::allocate(200);
  detail::Frames::release(first, 200);
  void* again = detail::Frames::allocate(193);
  EXPECT_EQ(again, first);
  void* other = detail::Frames::allocate(1000);
  EXPECT_NE(other, first);
  detail::Frames::release(again, 193);
  detail::Frames::release(other, 1000);
}

TEST(Frames, of_a_thread_are_freed_with_it) {
  // The leak checker of the sanitizer builds looks; here: no thread takes another's.
  void* theirs = nullptr;
  std::thread([&] {
    theirs = detail::Frames::allocate(3000);
    detail::Frames::release(theirs, 3000);
  }).join();
  std::thread([&] {
    void* own = detail::Frames::allocate(100'000);  // larger than any that is kept
    ASSERT_NE(own, nullptr);
    detail::Frames::release(own, 100'000);
  }).join();
}

}  // namespace
}  // namespace mgr::app
