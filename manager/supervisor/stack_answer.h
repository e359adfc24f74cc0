#pragma once

#include <string>
#include <string_view>

namespace mgr::manager {

// What a worker writes in answer to one question (common/ipc/stacks.h), put together: what belongs
// to other questions is left out, names of C++ functions are demangled. Text beyond
// ipc::kMostOfStack is dropped.
class StackAnswer {
 public:
  explicit StackAnswer(int question) : question_(question) {}

  void feed(std::string_view data);

  enum class State {
    nothing,   // not a word yet
    begun,     // in the middle of the frames
    threads,   // the frames are complete, more is to come
    complete,  //
  };
  State state() const { return state_; }
  bool holds_gil() const { return holds_gil_; }
  bool one_thread() const { return one_thread_; }
  const std::string& text() const { return text_; }

 private:
  void take_line(std::string_view line);
  void take_text(std::string_view line);
  void take_mark(std::string_view mark);

  int question_;
  State state_ = State::nothing;
  bool ours_ = false;  // the last mark was
  bool holds_gil_ = false;
  bool one_thread_ = false;
  std::string rest_;  // of a line
  std::string text_;
};

}  // namespace mgr::manager
