#include "worker/life/signals.h"

#include <signal.h>

#include <array>

namespace mgr::worker {
namespace {

constexpr std::array kGroupSignals{SIGTERM, SIGINT, SIGHUP};
constexpr std::array kKept{SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD, SIGPIPE};

void set_all(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (const int signal : kGroupSignals) sigaction(signal, &action, nullptr);
}

// Between the two calls round a fork, which cannot hand anything on.
sigset_t mask_before;

}  // namespace

void disregard_group_signals() {
  set_all([](int) {});
}

void regard_group_signals() {
  set_all(SIG_DFL);
}

void block_group_signals() {
  sigset_t group;
  sigemptyset(&group);
  for (const int signal : kGroupSignals) sigaddset(&group, signal);
  pthread_sigmask(SIG_BLOCK, &group, &mask_before);
}

void unblock_group_signals() {
  pthread_sigmask(SIG_SETMASK, &mask_before, nullptr);
}

struct SignalDispositions::Saved {
  std::array<struct sigaction, kKept.size()> actions;
};

SignalDispositions::SignalDispositions() : saved_(new Saved) {
  for (std::size_t i = 0; i < kKept.size(); ++i) sigaction(kKept[i], nullptr, &saved_->actions[i]);
}

SignalDispositions::~SignalDispositions() {
  delete saved_;
}

void SignalDispositions::restore() const {
  for (std::size_t i = 0; i < kKept.size(); ++i) sigaction(kKept[i], &saved_->actions[i], nullptr);
}

}  // namespace mgr::worker
