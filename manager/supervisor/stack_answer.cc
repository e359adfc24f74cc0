#include "manager/supervisor/stack_answer.h"

#include <cxxabi.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <optional>

#include "common/ipc/stacks.h"

namespace mgr::manager {
namespace {

constexpr std::string_view kMangled = "_Z";

// The first word of `text`, which is taken off.
std::string_view take_word(std::string_view& text) {
  const std::size_t end = text.find(' ');
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return word;
}

std::optional<std::string> demangle(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> plain(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), &std::free);
  if (!plain) return {};
  return std::string(plain.get());
}

// A frame of C++ names one function: what begins like a mangled name, up to its offset.
std::string with_plain_name(std::string_view line) {
  const std::size_t begin = line.find(kMangled);
  if (begin == std::string_view::npos) return std::string(line);
  const std::size_t end = std::min(line.find_first_of("+ ", begin), line.size());
  const auto plain = demangle(std::string(line.substr(begin, end - begin)));
  if (!plain) return std::string(line);
  return std::string(line.substr(0, begin)) + *plain + " " + std::string(line.substr(end));
}

}  // namespace

void StackAnswer::feed(std::string_view data) {
  for (std::size_t end; (end = data.find('\n')) != std::string_view::npos;) {
    rest_ += data.substr(0, end);
    data.remove_prefix(end + 1);
    take_line(rest_);
    rest_.clear();
  }
  if (rest_.size() < ipc::kMostOfStack) rest_ += data;
}

// Where the pipe was full for a moment, a mark may stand behind the beginning of a line.
void StackAnswer::take_line(std::string_view line) {
  const std::size_t mark = line.find(ipc::kStackMark);
  if (mark == std::string_view::npos) return take_text(line);
  if (mark > 0) take_text(line.substr(0, mark));
  take_mark(line.substr(mark + 1));
}

void StackAnswer::take_text(std::string_view line) {
  if (!ours_ || state_ == State::complete || text_.size() >= ipc::kMostOfStack) return;
  text_ += one_thread_ ? with_plain_name(line) : std::string(line);
  text_ += '\n';
}

void StackAnswer::take_mark(std::string_view mark) {
  const std::string_view digits = take_word(mark);
  int number = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  ours_ = parsed.ec == std::errc{} && parsed.ptr == digits.data() + digits.size() &&
          number == question_;
  if (!ours_) return;
  const std::string_view what = take_word(mark);
  if (what == ipc::kStackBegin) {
    state_ = State::begun;
    while (!mark.empty()) {
      const std::string_view word = take_word(mark);
      holds_gil_ |= word == ipc::kStackHoldsGil;
      one_thread_ |= word == ipc::kStackOneThread;
    }
  } else if (what == ipc::kStackThreads) {
    state_ = State::threads;
  } else if (what == ipc::kStackEnd) {
    state_ = State::complete;
  }
}

}  // namespace mgr::manager
