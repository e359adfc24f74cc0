#include "manager/supervisor/stack_answer.h"

#include <gtest/gtest.h>

#include <string>

#include "common/ipc/stacks.h"

namespace mgr::manager {
namespace {

using State = StackAnswer::State;

std::string mark(int question, const std::string& words) {
  return ipc::kStackMark + std::to_string(question) + " " + words + "\n";
}

TEST(StackAnswer, IsCompleteAtItsEnd) {
  StackAnswer answer(7);
  EXPECT_EQ(answer.state(), State::nothing);
  answer.feed(mark(7, "begin"));
  EXPECT_EQ(answer.state(), State::begun);
  answer.feed("thread\n  frame\n" + mark(7, "threads"));
  EXPECT_EQ(answer.state(), State::threads);
  answer.feed("task\n" + mark(7, "end"));
  EXPECT_EQ(answer.state(), State::complete);
  EXPECT_EQ(answer.text(), "thread\n  frame\ntask\n");
  EXPECT_FALSE(answer.holds_gil());
  EXPECT_FALSE(answer.one_thread());
}

TEST(StackAnswer, ComesInPiecesOfAnySize) {
  const std::string all =
      mark(7, "begin gil") + "one\ntwo\n" + mark(7, "threads") + "three\n" + mark(7, "end");
  StackAnswer answer(7);
  for (const char c : all) answer.feed({&c, 1});
  EXPECT_EQ(answer.state(), State::complete);
  EXPECT_EQ(answer.text(), "one\ntwo\nthree\n");
  EXPECT_TRUE(answer.holds_gil());
}

TEST(StackAnswer, LeavesOutWhatBelongsToAnEarlierQuestion) {
  StackAnswer answer(8);
  answer.feed("late task\n" + mark(7, "end") + "more of it\n");
  EXPECT_EQ(answer.state(), State::nothing);
  answer.feed(mark(8, "begin") + "mine\n" + mark(7, "threads") + "not mine\n" + mark(7, "end"));
  EXPECT_EQ(answer.state(), State::begun);
  answer.feed(mark(8, "threads") + mark(8, "end"));
  EXPECT_EQ(answer.text(), "mine\n");
}

TEST(StackAnswer, FindsAMarkBehindALineThatWasCut) {
  StackAnswer answer(7);
  answer.feed(mark(7, "begin") + "  File \"/a/b" + mark(7, "threads") + mark(7, "end"));
  EXPECT_EQ(answer.state(), State::complete);
  EXPECT_EQ(answer.text(), "  File \"/a/b\n");
}

TEST(StackAnswer, TakesNoMarkThatIsNoNumber) {
  StackAnswer answer(7);
  for (const char* words : {"", "x begin", "7x begin", "99999999999999999999 begin", "-7 begin"})
    answer.feed(std::string(1, ipc::kStackMark) + words + "\n");
  EXPECT_EQ(answer.state(), State::nothing);
}

TEST(StackAnswer, DemanglesTheFramesOfAThread) {
  StackAnswer answer(7);
  answer.feed(mark(7, "begin thread") +
              "  #0 _ZN3mgr6native10Dispatcher4turnEv+0x1f (mgr-worker)\n"
              "  #1 _ZL5outerPv.actor+0x2 (app.so)\n  #2 main+0x3 (mgr-worker)\n  #3 _Z+0x1 (x)\n" +
              mark(7, "end"));
  EXPECT_TRUE(answer.one_thread());
  EXPECT_EQ(answer.text(),
            "  #0 mgr::native::Dispatcher::turn() +0x1f (mgr-worker)\n"
            "  #1 outer(void*) [clone .actor] +0x2 (app.so)\n"
            "  #2 main+0x3 (mgr-worker)\n  #3 _Z+0x1 (x)\n");
}

TEST(StackAnswer, DropsWhatIsBeyondItsBound) {
  StackAnswer answer(7);
  answer.feed(mark(7, "begin"));
  const std::string line(1000, 'x');
  for (int i = 0; i < 3000; ++i) answer.feed(line + "\n");
  EXPECT_LE(answer.text().size(), ipc::kMostOfStack + 2 * line.size());
  EXPECT_GE(answer.text().size(), ipc::kMostOfStack);
  for (int i = 0; i < 3000; ++i) answer.feed(line);  // one line without an end
  answer.feed("\n" + mark(7, "end"));
  EXPECT_EQ(answer.state(), State::complete);
}

}  // namespace
}  // namespace mgr::manager
