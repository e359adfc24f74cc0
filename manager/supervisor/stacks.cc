#include "manager/supervisor/stacks.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include "common/ipc/stacks.h"
#include "manager/supervisor/process_info.h"
#include "manager/supervisor/saved_state.h"
#include "manager/supervisor/stack_answer.h"

namespace mgr::manager {
namespace {

using std::chrono::milliseconds;

// For the frames of the loop's thread, which a signal handler writes.
constexpr milliseconds kPatience{5000};
// For what Python adds when it comes to it.
constexpr milliseconds kPatienceForMore{2000};
// For each other thread of a C++ application, and for all of them.
constexpr milliseconds kPatienceForThread{500};
constexpr milliseconds kPatienceForThreads{3000};

bool is_stopped(pid_t pid) {
  const char state = process_state(pid).value_or('?');
  return state == 'T' || state == 't';
}

Error stopped(pid_t pid) {
  return Error(
      fmt::format("pid {} is stopped (state {} in /proc/{}/stat: SIGSTOP or a debugger); "
                  "SIGCONT lets it go on",
                  pid, process_state(pid).value_or('?'), pid));
}

bool has(std::uint64_t mask, int signal) {
  return (mask >> (signal - 1) & 1) != 0;
}

// Errors: why this process can't answer.
Result<void> check_that_it_can(pid_t pid) {
  if (is_stopped(pid)) return stopped(pid);
  const auto masks = signal_masks(pid, pid);
  if (!masks) return Error(fmt::format("pid {}: /proc/{}/status can't be read", pid, pid));
  // The default action of the signal would end it.
  if (!has(masks->caught, ipc::stack_signal())) {
    return Error(
        fmt::format("pid {} does not listen to signal {}, by which it is asked: it has just "
                    "begun, or the application has taken the signal away",
                    pid, ipc::stack_signal()));
  }
  if (has(masks->blocked, ipc::stack_signal())) {
    return Error(
        fmt::format("pid {} blocks signal {}, by which it is asked", pid, ipc::stack_signal()));
  }
  return {};
}

bool ask(pid_t pid, pid_t thread, int question) {
  siginfo_t info{};
  info.si_code = SI_QUEUE;
  info.si_pid = ::getpid();
  info.si_uid = ::getuid();
  info.si_value.sival_int = question;
  return ::syscall(SYS_rt_tgsigqueueinfo, pid, thread, ipc::stack_signal(), &info) == 0;
}

}  // namespace

// One question to one worker, from the signal to the answer.
class Stacks::Question {
 public:
  Question(Stacks& stacks, WorkerId worker, pid_t pid, int pipe)
      : stacks_(stacks),
        worker_(worker),
        pid_(pid),
        pipe_(pipe),
        watcher_(stacks.loop_, pipe, [this](int, int) { on_readable(); }),
        timer_(stacks.loop_, [this] { on_timer(); }),
        answer_(0) {}

  void wanted_by(Done done) { dones_.push_back(std::move(done)); }
  std::vector<Done> take_dones() { return std::move(dones_); }

  // Errors: it could not be asked.
  Result<void> begin() {
    drain();
    if (!put(pid_, kPatience)) return Error::from_errno(fmt::format("signal to pid {}", pid_));
    watcher_.start(FdWatcher::kReadable);
    return {};
  }

 private:
  bool put(pid_t thread, milliseconds patience) {
    const int number = stacks_.next_question_++;
    answer_ = StackAnswer(number);
    thread_ = thread;
    stacks_.loop_.update_now();
    timer_.start(patience);
    return ask(pid_, thread, number);
  }

  // What an earlier question has left.
  void drain() {
    char buffer[4096];
    while (::read(pipe_, buffer, sizeof buffer) > 0) continue;
  }

  void on_readable() {
    char buffer[64 * 1024];
    const ssize_t n = ::read(pipe_, buffer, sizeof buffer);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return finish(Error(fmt::format("pid {} has ended meanwhile", pid_)));
    const auto before = answer_.state();
    answer_.feed({buffer, static_cast<std::size_t>(n)});
    if (answer_.state() == before) return;
    if (answer_.state() == StackAnswer::State::complete) return complete();
    if (answer_.state() == StackAnswer::State::threads) timer_.start(kPatienceForMore);
  }

  void complete() {
    if (!answer_.one_thread()) return finish(Stack{answer_.text(), {}});
    add_thread(answer_.text());
    ask_next_thread();
  }

  void on_timer() {
    switch (answer_.state()) {
      case StackAnswer::State::nothing:
      case StackAnswer::State::begun:
        if (thread_ != pid_) {
          add_thread("  no answer\n");
          return ask_next_thread();
        }
        return finish(no_answer());
      case StackAnswer::State::threads:
        return finish(Stack{answer_.text(), why_no_more()});
      case StackAnswer::State::complete:
        return;
    }
  }

  Error no_answer() const {
    if (is_stopped(pid_)) return stopped(pid_);
    return Error(fmt::format("pid {} does not answer within {} s (state {} in /proc/{}/stat)", pid_,
                             kPatience / std::chrono::seconds(1), process_state(pid_).value_or('?'),
                             pid_));
  }

  // The loop's thread has answered by its signal handler, but has come to no Python instruction.
  std::string why_no_more() const {
    const auto seconds = kPatienceForMore / std::chrono::seconds(1);
    return answer_.holds_gil()
               ? fmt::format(
                     "C code holds the GIL for {} s and more: the stacks of the threads, "
                     "without asyncio's tasks",
                     seconds)
               : fmt::format(
                     "the loop's thread waits in C code (a lock, a call without the GIL) or "
                     "for the GIL for {} s and more: the stacks of the threads, without "
                     "asyncio's tasks",
                     seconds);
  }

  void add_thread(const std::string& frames) {
    text_ += fmt::format("{}Thread {} ({}){}:\n{}", text_.empty() ? "" : "\n", thread_,
                         thread_name(pid_, thread_), thread_ == pid_ ? ", the loop's" : "", frames);
  }

  void ask_next_thread() {
    if (!asked_for_threads_) {
      asked_for_threads_ = true;
      for (const pid_t thread : threads_of(pid_)) {
        if (thread != pid_) threads_.push_back(thread);
      }
      ask_threads_until_ = stacks_.loop_.now() + kPatienceForThreads;
    }
    while (!threads_.empty()) {
      if (stacks_.loop_.now() > ask_threads_until_) {
        return finish(
            Stack{std::move(text_), fmt::format("{} threads more were not asked, as others "
                                                "gave no answer",
                                                threads_.size())});
      }
      const pid_t next = threads_.front();
      threads_.pop_front();
      thread_ = next;
      const auto masks = signal_masks(pid_, next);
      if (!masks) continue;  // it has ended
      if (has(masks->blocked, ipc::stack_signal())) {
        add_thread("  not asked: it blocks the signal\n");
      } else if (put(next, kPatienceForThread)) {
        return;
      }
    }
    finish(Stack{std::move(text_), {}});
  }

  // Ends this object.
  void finish(const Result<Stack>& stack) { stacks_.answered(worker_, stack); }

  Stacks& stacks_;
  const WorkerId worker_;
  const pid_t pid_;
  const int pipe_;
  FdWatcher watcher_;
  Timer timer_;
  std::vector<Done> dones_;
  pid_t thread_ = 0;  // the one that is asked
  StackAnswer answer_;
  // Of a C++ application, whose threads are asked one by one.
  bool asked_for_threads_ = false;
  std::deque<pid_t> threads_;
  milliseconds ask_threads_until_{0};
  std::string text_;
};

Stacks::Stacks(EventLoop& loop) : loop_(loop) {}

Stacks::~Stacks() = default;

Result<UniqueFd> Stacks::open(WorkerId worker) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return Error::from_errno("pipe");
  sources_[worker].pipe.reset(ends[0]);
  return UniqueFd(ends[1]);
}

void Stacks::close(WorkerId worker) {
  const auto it = sources_.find(worker);
  if (it == sources_.end()) return;
  if (it->second.question) answered(worker, Error("the worker has ended meanwhile"));
  sources_.erase(worker);
}

void Stacks::take(WorkerId worker, pid_t pid, Done done) {
  const auto it = sources_.find(worker);
  if (it == sources_.end()) return done(Error("the worker has ended"));
  Source& source = it->second;
  if (source.question) return source.question->wanted_by(std::move(done));
  if (auto can = check_that_it_can(pid); !can) return done(can.error());
  ::fcntl(source.pipe.get(), F_SETPIPE_SZ, ipc::kMostOfStack);
  source.question = std::make_unique<Question>(*this, worker, pid, source.pipe.get());
  source.question->wanted_by(std::move(done));
  if (auto begun = source.question->begin(); !begun) answered(worker, begun.error());
}

void Stacks::answered(WorkerId worker, const Result<Stack>& stack) {
  const auto question = std::move(sources_.at(worker).question);
  for (const auto& done : question->take_dones()) done(stack);
}

nlohmann::json Stacks::save(StateWriter& writer) const {
  auto pipes = nlohmann::json::array();
  for (const auto& [worker, source] : sources_) {
    pipes.push_back({{"id", worker}, {"fd", writer.keep(source.pipe.get())}});
  }
  return {{"next_question", next_question_}, {"pipes", std::move(pipes)}};
}

void Stacks::restore(const nlohmann::json& saved, const StateReader& reader) {
  next_question_ = saved.at("next_question").get<int>();
  for (const auto& one : saved.at("pipes")) {
    sources_[one.at("id").get<WorkerId>()].pipe = reader.take(one.at("fd"));
  }
}

}  // namespace mgr::manager
