#include "worker/life/life.h"

#include <gtest/gtest.h>

#include <vector>

namespace mgr::worker {
namespace {

struct Pair {
  State state;
  Event event;
  Step expected;
};

using S = State;
using E = Event;
using A = Action;

const std::vector<Pair> kPairs{
    {S::booting, E::booted, {S::ready, A::send_ready}},
    {S::booting, E::listen, {S::booting, A::none}},
    {S::booting, E::release, {S::booting, A::none}},
    {S::booting, E::hold, {S::booting, A::stop_accepting}},
    {S::booting, E::drain, {S::leaving, A::leave_now}},
    {S::booting, E::quit, {S::leaving, A::leave_now}},
    {S::booting, E::supervisor_gone, {S::leaving, A::leave_now}},
    {S::booting, E::idle, {S::booting, A::none}},
    {S::booting, E::deadline, {S::booting, A::none}},

    {S::ready, E::booted, {S::ready, A::none}},
    {S::ready, E::listen, {S::serving, A::accept}},
    {S::ready, E::release, {S::ready, A::release}},
    {S::ready, E::hold, {S::holding, A::stop_accepting}},
    {S::ready, E::drain, {S::draining, A::begin_drain}},
    {S::ready, E::quit, {S::leaving, A::leave_now}},
    {S::ready, E::supervisor_gone, {S::draining, A::begin_drain}},
    {S::ready, E::idle, {S::ready, A::none}},
    {S::ready, E::deadline, {S::ready, A::none}},

    {S::serving, E::booted, {S::serving, A::none}},
    {S::serving, E::listen, {S::serving, A::accept}},
    {S::serving, E::release, {S::serving, A::release}},
    {S::serving, E::hold, {S::holding, A::stop_accepting}},
    {S::serving, E::drain, {S::draining, A::begin_drain}},
    {S::serving, E::quit, {S::leaving, A::leave_now}},
    {S::serving, E::supervisor_gone, {S::draining, A::begin_drain}},
    {S::serving, E::idle, {S::serving, A::none}},
    {S::serving, E::deadline, {S::serving, A::none}},

    {S::holding, E::booted, {S::holding, A::none}},
    {S::holding, E::listen, {S::serving, A::accept}},
    {S::holding, E::release, {S::holding, A::release}},
    {S::holding, E::hold, {S::holding, A::stop_accepting}},
    {S::holding, E::drain, {S::draining, A::begin_drain}},
    {S::holding, E::quit, {S::leaving, A::leave_now}},
    {S::holding, E::supervisor_gone, {S::draining, A::begin_drain}},
    {S::holding, E::idle, {S::holding, A::none}},
    {S::holding, E::deadline, {S::holding, A::none}},

    {S::draining, E::booted, {S::draining, A::none}},
    {S::draining, E::listen, {S::draining, A::none}},
    {S::draining, E::release, {S::draining, A::none}},
    {S::draining, E::hold, {S::draining, A::none}},
    {S::draining, E::drain, {S::draining, A::tighten_deadline}},
    {S::draining, E::quit, {S::leaving, A::leave_now}},
    {S::draining, E::supervisor_gone, {S::draining, A::none}},
    {S::draining, E::idle, {S::leaving, A::shut_down}},
    {S::draining, E::deadline, {S::leaving, A::cut_and_shut_down}},

    {S::leaving, E::booted, {S::leaving, A::none}},
    {S::leaving, E::listen, {S::leaving, A::none}},
    {S::leaving, E::release, {S::leaving, A::none}},
    {S::leaving, E::hold, {S::leaving, A::none}},
    {S::leaving, E::drain, {S::leaving, A::tighten_deadline}},
    {S::leaving, E::quit, {S::leaving, A::exit_now}},
    {S::leaving, E::supervisor_gone, {S::leaving, A::none}},
    {S::leaving, E::idle, {S::leaving, A::none}},
    {S::leaving, E::deadline, {S::leaving, A::exit_now}},
};

TEST(Life, EveryPairOfStateAndEventLeadsWhereTheTableSays) {
  for (const Pair& pair : kPairs) {
    EXPECT_EQ(next(pair.state, pair.event), pair.expected)
        << name(pair.state) << " and event " << static_cast<int>(pair.event);
  }
}

TEST(Life, TheTableHasEveryPairOnce) {
  constexpr int kStates = static_cast<int>(S::leaving) + 1;
  constexpr int kEvents = static_cast<int>(E::deadline) + 1;
  std::vector<int> seen(kStates * kEvents);
  for (const Pair& pair : kPairs) {
    ++seen[static_cast<int>(pair.state) * kEvents + static_cast<int>(pair.event)];
  }
  EXPECT_EQ(seen, std::vector<int>(kStates * kEvents, 1));
}

TEST(Life, NothingLeadsOutOfLeaving) {
  for (int event = 0; event <= static_cast<int>(E::deadline); ++event) {
    EXPECT_EQ(next(S::leaving, static_cast<Event>(event)).state, S::leaving);
  }
}

}  // namespace
}  // namespace mgr::worker
