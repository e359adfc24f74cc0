#pragma once

#include <optional>
#include <string>

#include "common/base/log.h"
#include "worker/life/mold.h"
#include "worker/python/py.h"

namespace mgr::python {

// A new _mgr_core.Worker, which keeps `mold_object` (the owner of `mold`) alive.
PyObject* new_worker(PyObject* mold_object, worker::Mold& mold, worker::Identity identity);

// log(level, text) of mold and worker.
PyObject* write_log(const Log& log, PyObject* args);

// The arguments (stage, error, traceback, exit_status) of load_failed() and boot_failed(); nullopt
// with an exception set.
struct FailureArguments {
  std::string stage;
  std::string error;
  std::string traceback;
  int exit_status;
};
std::optional<FailureArguments> parse_failure(PyObject* args);

}  // namespace mgr::python
