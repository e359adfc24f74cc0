#include "common/server/deadlines.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

namespace mgr::server {
namespace {

using std::chrono::milliseconds;

struct Waiter final : DeadlineOwner {
  Waiter(std::string& into, char as) : order(into), name(as) {}
  void on_deadline(DeadlineKind) noexcept override {
    order += name;
    if (then) then();
  }
  std::string& order;
  char name;
  std::function<void()> then;
  Deadline deadline{*this};
};

class DeadlineQueues : public testing::Test {
 protected:
  // header 20 ms, body 40 ms, keep_alive off, linger 60 ms, write 5 ms.
  DeadlineQueues()
      : deadlines(loop, {milliseconds(20), milliseconds(40), milliseconds(0), milliseconds(60),
                         milliseconds(5)}) {}

  EventLoop loop;
  Deadlines deadlines;
  std::string order;
  Waiter a{order, 'a'};
  Waiter b{order, 'b'};
  Waiter c{order, 'c'};
};

TEST_F(DeadlineQueues, fire_in_order_of_time_across_kinds) {
  deadlines.arm(a.deadline, DeadlineKind::linger);
  deadlines.arm(b.deadline, DeadlineKind::body);
  deadlines.arm(c.deadline, DeadlineKind::write);
  loop.run();
  EXPECT_EQ(order, "cba");
  EXPECT_FALSE(a.deadline.armed());
}

TEST_F(DeadlineQueues, begin_anew_when_armed_again) {
  const auto begin = std::chrono::steady_clock::now();
  deadlines.arm(a.deadline, DeadlineKind::header);
  deadlines.arm(b.deadline, DeadlineKind::header);
  ::usleep(10'000);
  deadlines.arm(a.deadline, DeadlineKind::header);
  loop.run();
  EXPECT_EQ(order, "ba");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(30));
}

TEST_F(DeadlineQueues, that_are_disarmed_do_not_fire) {
  deadlines.arm(a.deadline, DeadlineKind::header);
  deadlines.arm(b.deadline, DeadlineKind::header);
  deadlines.arm(c.deadline, DeadlineKind::header);
  deadlines.disarm(b.deadline);
  deadlines.disarm(b.deadline);
  loop.run();
  EXPECT_EQ(order, "ac");
}

TEST_F(DeadlineQueues, of_a_kind_that_is_off_are_not_armed) {
  deadlines.arm(a.deadline, DeadlineKind::header);
  deadlines.arm(a.deadline, DeadlineKind::keep_alive);
  EXPECT_FALSE(a.deadline.armed());
  loop.run();
  EXPECT_EQ(order, "");
}

TEST_F(DeadlineQueues, may_be_changed_by_the_one_that_fires) {
  int again = 0;
  a.then = [&] {
    if (++again < 3) deadlines.arm(a.deadline, DeadlineKind::write);
    deadlines.disarm(b.deadline);
  };
  deadlines.arm(a.deadline, DeadlineKind::header);
  deadlines.arm(b.deadline, DeadlineKind::header);
  loop.run();
  EXPECT_EQ(order, "aaa");
}

TEST_F(DeadlineQueues, count_from_the_moment_of_arming_however_old_the_turn_is) {
  loop.run_nowait();
  ::usleep(50'000);
  deadlines.arm(a.deadline, DeadlineKind::header);
  const auto begin = std::chrono::steady_clock::now();
  while (a.deadline.armed()) loop.run_once();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(19));
}

}  // namespace
}  // namespace mgr::server
