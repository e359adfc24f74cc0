#pragma once

#include "common/base/log.h"
#include "worker/life/mold.h"
#include "worker/python/py.h"

namespace mgr::python {

// A new _mgr_core.Worker, which keeps `mold_object` (the owner of `mold`) alive.
PyObject* new_worker(PyObject* mold_object, worker::Mold& mold, worker::Identity identity);

// log(level, text) of mold and worker.
PyObject* write_log(const Log& log, PyObject* args);

}  // namespace mgr::python
