#pragma once

#include "worker/life/stacks.h"
#include "worker/python/py.h"

namespace mgr::python {

// Answers by what handles the signal now, which must be faulthandler.register()'s handler: it
// writes the stacks of all threads. After each answer Python's own handler of the signal
// (signal.signal()) is made to run, as if the signal had just come. False with an exception set.
bool answer_stacks(worker::Stacks& stacks);

}  // namespace mgr::python
