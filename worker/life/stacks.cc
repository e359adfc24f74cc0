#include "worker/life/stacks.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "common/base/check.h"
#include "common/ipc/stacks.h"

namespace mgr::worker {
namespace {

// A signal handler has no other way to its data. It is written while the signal is not sent, or
// blocked.
struct Answering {
  int pipe = -1;
  dev_t device = 0;
  ino_t inode = 0;
  Stacks::Frames frames;
};
Answering answering;
std::atomic<int> question{0};
std::atomic<bool> alive{false};

static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

bool identify(int fd, dev_t& device, ino_t& inode) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return false;
  device = info.st_dev;
  inode = info.st_ino;
  return true;
}

// The application may have closed the pipe, and the number may be something else by now.
bool pipe_is_ours() {
  dev_t device = 0;
  ino_t inode = 0;
  return answering.pipe >= 0 && identify(answering.pipe, device, inode) &&
         device == answering.device && inode == answering.inode;
}

// False: not all of it was taken.
bool put(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(answering.pipe, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

class Mark {
 public:
  explicit Mark(int number) {
    add({&ipc::kStackMark, 1});
    char digits[16];
    std::size_t at = sizeof digits;
    for (auto left = static_cast<unsigned>(number); at == sizeof digits || left > 0; left /= 10)
      digits[--at] = static_cast<char>('0' + left % 10);
    add({digits + at, sizeof digits - at});
  }
  Mark& word(std::string_view text) {
    add(" ");
    add(text);
    return *this;
  }
  // Behind whatever text: at the beginning of a line.
  void write() {
    add("\n");
    put({text_, size_});
  }

 private:
  void add(std::string_view text) {
    for (const char c : text) {
      if (size_ < sizeof text_) text_[size_++] = c;
    }
  }
  char text_[64];
  std::size_t size_ = 0;
};

void answer(int signal, int number, const void* context) {
  const Stacks::Frames& frames = answering.frames;
  const bool more = frames.ask_for_more != nullptr;
  Mark begin(number);
  begin.word(ipc::kStackBegin);
  if (frames.holds_gil && frames.holds_gil()) begin.word(ipc::kStackHoldsGil);
  if (frames.one_thread) begin.word(ipc::kStackOneThread);
  begin.write();
  frames.write(answering.pipe, signal, context);
  Mark(number).word(more ? ipc::kStackThreads : ipc::kStackEnd).write();
  if (more) frames.ask_for_more(signal);
}

void on_signal(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  if (info->si_code == SI_QUEUE && alive.load() && answering.frames.write && pipe_is_ours()) {
    question.store(info->si_value.sival_int);
    answer(signal, info->si_value.sival_int, context);
  }
  errno = saved;
}

void set_handler(bool ours) {
  struct sigaction action {};
  if (ours) {
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_RESTART | SA_ONSTACK | SA_SIGINFO;
  } else {
    action.sa_handler = SIG_DFL;
  }
  sigfillset(&action.sa_mask);
  sigaction(ipc::stack_signal(), &action, nullptr);
}

}  // namespace

Stacks::Stacks(UniqueFd pipe) : pipe_(std::move(pipe)) {
  CHECK(answering.pipe < 0);
  if (!pipe_) return;
  answering = {};
  if (!identify(pipe_.get(), answering.device, answering.inode)) return;
  answering.pipe = pipe_.get();
}

// A question that is on its way must not end the process by the signal's default action.
Stacks::~Stacks() {
  end();
  answering.pipe = -1;
}

void Stacks::answer_with(const Frames& frames) {
  if (answering.pipe < 0) return;
  alive.store(false);
  answering.frames = frames;
  set_handler(true);
  alive.store(true);
}

void Stacks::tell_more(std::string_view text) {
  if (!alive.load() || !pipe_is_ours()) return;
  const int number = question.load();
  if (put(text)) Mark(number).word(ipc::kStackEnd).write();
}

void Stacks::end() {
  alive.store(false);
}

void Stacks::leave_forked_child() {
  if (answering.pipe < 0) return;
  alive.store(false);
  set_handler(false);
  if (pipe_is_ours()) pipe_.reset();
  (void)pipe_.release();
  answering.pipe = -1;
}

}  // namespace mgr::worker
