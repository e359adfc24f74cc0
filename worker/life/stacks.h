#pragma once

#include <sys/types.h>

#include <string_view>

#include "common/base/unique_fd.h"

namespace mgr::worker {

// Answers the supervisor's question what this process executes (common/ipc/stacks.h), from a signal
// handler: so it does while the loop is blocked. One in a process; made in the worker, after the
// fork, and unmade in processes that the application forks.
//
// The handler restarts system calls (SA_RESTART); it writes to nothing but the pipe, and not even
// there once the application has closed that number.
class Stacks {
 public:
  // How a host writes frames. Called from the handler: what they call must be fit for that
  // (signal-safety(7)).
  struct Frames {
    // Writes the frames of the thread that the handler runs in, or of all. `context`: its
    // ucontext_t.
    void (*write)(int pipe, int signal, const void* context) = nullptr;
    bool one_thread = false;
    // Does the handler's thread hold the GIL? Null: there is none.
    bool (*holds_gil)() = nullptr;
    // Makes tell_more() be called soon, from outside of the handler. Null: nothing more is told.
    void (*ask_for_more)(int signal) = nullptr;
  };

  // `pipe`: nothing where nobody will ask.
  explicit Stacks(UniqueFd pipe);
  ~Stacks();
  Stacks(const Stacks&) = delete;

  // -1: nobody will ask.
  int pipe() const { return pipe_.get(); }
  // Takes the signal, also from a handler that has it by now.
  void answer_with(const Frames& frames);
  // The rest of the answer to the last question.
  void tell_more(std::string_view text);
  // No more answers: the signal is caught and nothing else.
  void end();
  // In a process that the application forked: the signal has its default action again.
  void leave_forked_child();

 private:
  UniqueFd pipe_;
};

}  // namespace mgr::worker
