// Starts a thread when it is loaded, which does not survive a fork.
#include <mgr/application.h>
#include <pthread.h>
#include <unistd.h>

#include <string>

using namespace mgr::app;

namespace {

int ticks = 0;

void* tick(void*) {
  for (;;) {
    ::usleep(1000);
    __atomic_add_fetch(&ticks, 1, __ATOMIC_RELAXED);
  }
  return nullptr;
}

__attribute__((constructor)) void start() {
  pthread_t thread;
  pthread_create(&thread, nullptr, tick, nullptr);
  pthread_setname_np(thread, "reporter");
}

Task<> application(const Scope& scope, Receive, Send send) {
  if (scope.type() != ScopeType::http) co_return;
  const int before = __atomic_load_n(&ticks, __ATOMIC_RELAXED);
  co_await sleep(std::chrono::milliseconds(50));
  const bool runs = __atomic_load_n(&ticks, __ATOMIC_RELAXED) > before;
  co_await respond(send, 200, {}, runs ? "the thread runs" : "the thread is gone");
}

}  // namespace

MGR_APPLICATION(application);
