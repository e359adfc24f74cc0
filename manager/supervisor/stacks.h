#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/loop/event_loop.h"
#include "manager/supervisor/world.h"

namespace mgr::manager {

class StateReader;
class StateWriter;

// Asks workers what they execute (common/ipc/stacks.h): the one way to a stack, whoever wants it.
// Never waits: the answer comes by the loop. Owned by ProcessWorld.
class Stacks {
 public:
  struct Stack {
    std::string text;  // lines; at most ipc::kMostOfStack or a little more
    std::string note;  // one line on what is missing and why; empty: nothing is
  };
  // Errors: one line that says why there is none.
  using Done = std::function<void(const Result<Stack>&)>;

  explicit Stacks(EventLoop& loop);
  ~Stacks();

  // A new worker: the end of the pipe that it gets.
  Result<UniqueFd> open(WorkerId worker);
  // It is gone; whoever waits for its stack is told.
  void close(WorkerId worker);
  // `done` is called once, at the latest after some seconds, perhaps at once. Who asks while an
  // answer is on its way gets the same.
  void take(WorkerId worker, pid_t pid, Done done);

  // The pipes; a question that is under way is forgotten (saved_state.h).
  nlohmann::json save(StateWriter& writer) const;
  void restore(const nlohmann::json& saved, const StateReader& reader);

 private:
  class Question;
  struct Source {
    UniqueFd pipe;
    std::unique_ptr<Question> question;  // under way
  };
  void answered(WorkerId worker, const Result<Stack>& stack);

  EventLoop& loop_;
  int next_question_ = 1;
  std::map<WorkerId, Source> sources_;
};

}  // namespace mgr::manager
