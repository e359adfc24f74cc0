#include "manager/supervisor/worker_state.h"

#include <gtest/gtest.h>

#include <map>
#include <utility>

namespace mgr::manager {
namespace {

using S = WorkerState;
using E = WorkerEvent;
using A = WorkerAction;

constexpr S kStates[] = {S::forking, S::unclaimed, S::booting, S::standing, S::serving,
                         S::held,    S::draining,  S::failed,  S::killed,   S::gone};
constexpr E kEvents[] = {E::forked, E::fork_failed, E::ready,    E::boot_failed, E::serve,
                         E::hold,   E::drain,       E::deadline, E::exited};

// Every pair that means something. All others are bugs of the caller and change nothing.
const std::map<std::pair<S, E>, WorkerTransition> kTable = {
    {{S::forking, E::forked}, {S::booting, A::none}},
    {{S::forking, E::fork_failed}, {S::gone, A::forget}},
    {{S::forking, E::ready}, {S::unclaimed, A::none}},
    {{S::forking, E::boot_failed}, {S::failed, A::expect_exit}},
    {{S::forking, E::drain}, {S::draining, A::quit}},
    {{S::forking, E::deadline}, {S::forking, A::kill_mold}},
    {{S::forking, E::exited}, {S::gone, A::forget}},

    {{S::unclaimed, E::forked}, {S::standing, A::note_ready}},
    {{S::unclaimed, E::fork_failed}, {S::gone, A::forget}},
    {{S::unclaimed, E::boot_failed}, {S::failed, A::expect_exit}},
    {{S::unclaimed, E::drain}, {S::draining, A::quit}},
    {{S::unclaimed, E::deadline}, {S::unclaimed, A::kill_mold}},
    {{S::unclaimed, E::exited}, {S::gone, A::forget}},

    {{S::booting, E::ready}, {S::standing, A::note_ready}},
    {{S::booting, E::boot_failed}, {S::failed, A::expect_exit}},
    {{S::booting, E::drain}, {S::draining, A::quit}},
    {{S::booting, E::deadline}, {S::killed, A::kill}},
    {{S::booting, E::exited}, {S::gone, A::forget}},

    {{S::standing, E::serve}, {S::serving, A::give_sockets}},
    {{S::standing, E::drain}, {S::draining, A::send_drain}},
    {{S::standing, E::deadline}, {S::killed, A::kill}},
    {{S::standing, E::exited}, {S::gone, A::forget}},

    {{S::serving, E::hold}, {S::held, A::send_hold}},
    {{S::serving, E::drain}, {S::draining, A::send_drain}},
    {{S::serving, E::deadline}, {S::killed, A::kill}},
    {{S::serving, E::exited}, {S::gone, A::forget}},

    {{S::held, E::serve}, {S::serving, A::give_sockets}},
    {{S::held, E::drain}, {S::draining, A::send_drain}},
    {{S::held, E::deadline}, {S::killed, A::kill}},
    {{S::held, E::exited}, {S::gone, A::forget}},

    {{S::draining, E::forked}, {S::draining, A::none}},
    {{S::draining, E::fork_failed}, {S::gone, A::forget}},
    {{S::draining, E::ready}, {S::draining, A::none}},
    {{S::draining, E::boot_failed}, {S::draining, A::none}},
    {{S::draining, E::drain}, {S::draining, A::none}},
    {{S::draining, E::deadline}, {S::killed, A::kill}},
    {{S::draining, E::exited}, {S::gone, A::forget}},

    {{S::failed, E::forked}, {S::failed, A::none}},
    {{S::failed, E::fork_failed}, {S::gone, A::forget}},
    {{S::failed, E::ready}, {S::failed, A::none}},
    {{S::failed, E::boot_failed}, {S::failed, A::none}},
    {{S::failed, E::drain}, {S::failed, A::none}},
    {{S::failed, E::deadline}, {S::killed, A::kill}},
    {{S::failed, E::exited}, {S::gone, A::forget}},

    {{S::killed, E::forked}, {S::killed, A::none}},
    {{S::killed, E::fork_failed}, {S::gone, A::forget}},
    {{S::killed, E::ready}, {S::killed, A::none}},
    {{S::killed, E::boot_failed}, {S::killed, A::none}},
    {{S::killed, E::drain}, {S::killed, A::none}},
    {{S::killed, E::deadline}, {S::killed, A::none}},
    {{S::killed, E::exited}, {S::gone, A::forget}},
};

TEST(WorkerState, EveryPairOfStateAndEventIsAsInTheTable) {
  for (const S state : kStates) {
    for (const E event : kEvents) {
      const auto known = kTable.find({state, event});
      const WorkerTransition expected =
          known == kTable.end() ? WorkerTransition{state, A::bug} : known->second;
      const WorkerTransition actual = next(state, event);
      EXPECT_EQ(actual.state, expected.state)
          << to_string(state) << " × " << to_string(event) << " → " << to_string(actual.state);
      EXPECT_EQ(actual.action, expected.action) << to_string(state) << " × " << to_string(event)
                                                << ": action " << static_cast<int>(actual.action);
    }
  }
}

TEST(WorkerState, EveryStateButGoneLeadsToGoneWhenTheProcessEnds) {
  for (const S state : kStates) {
    if (state != S::gone) {
      EXPECT_EQ(next(state, E::exited).state, S::gone) << to_string(state);
    }
  }
}

}  // namespace
}  // namespace mgr::manager
