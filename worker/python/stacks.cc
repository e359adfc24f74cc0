#include "worker/python/stacks.h"

#include <dlfcn.h>
#include <signal.h>

#include "common/ipc/stacks.h"

namespace mgr::python {
namespace {

void (*threads_of_faulthandler)(int) = nullptr;
// Not in the limited API, but in every CPython.
int (*gil_state_check)() = nullptr;

void write_threads(int, int signal, const void*) {
  threads_of_faulthandler(signal);
}

bool holds_gil() {
  return gil_state_check() != 0;
}

void run_python_handler(int signal) {
  PyErr_SetInterruptEx(signal);
}

}  // namespace

bool answer_stacks(worker::Stacks& stacks) {
  struct sigaction now {};
  sigaction(ipc::stack_signal(), nullptr, &now);
  if ((now.sa_flags & SA_SIGINFO) || now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN) {
    PyErr_SetString(PyExc_RuntimeError, "faulthandler has not taken the signal");
    return false;
  }
  threads_of_faulthandler = now.sa_handler;
  gil_state_check = reinterpret_cast<int (*)()>(::dlsym(RTLD_DEFAULT, "PyGILState_Check"));
  worker::Stacks::Frames frames;
  frames.write = write_threads;
  frames.holds_gil = gil_state_check ? holds_gil : nullptr;
  frames.ask_for_more = run_python_handler;
  stacks.answer_with(frames);
  return true;
}

}  // namespace mgr::python
