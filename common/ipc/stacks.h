#pragma once

#include <csignal>
#include <cstddef>
#include <cstdint>

namespace mgr::ipc {

// How a supervisor learns what a worker executes, also when the worker's loop does not turn: it
// sends a signal with a number of its own (rt_tgsigqueueinfo), and the worker's handler writes the
// answer into a pipe that came with the worker's Fork. The pipe never blocks the writer: what it
// does not take is lost.
//
// Lines that begin with kStackMark are marks, `<mark><question> <word>`:
//
//   begin [gil] [thread]  gil: the thread holds Python's GIL; thread: the frames that follow are
//                         those of the asked thread alone
//   threads               the frames are complete, more is to come
//   end                   the answer is complete
//
// What carries the number of an older question is not looked at.

inline constexpr char kStackMark = '\x01';
inline constexpr char kStackBegin[] = "begin";
inline constexpr char kStackHoldsGil[] = "gil";
inline constexpr char kStackOneThread[] = "thread";
inline constexpr char kStackThreads[] = "threads";
inline constexpr char kStackEnd[] = "end";

// What the pipe is made to hold, where the system allows it (pipe(7)); an answer is not longer.
inline constexpr std::size_t kMostOfStack = 1024 * 1024;

// Far from the numbers that libraries take from the lower end.
inline int stack_signal() {
  return SIGRTMAX - 4;
}

}  // namespace mgr::ipc
