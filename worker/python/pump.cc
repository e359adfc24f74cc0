#include "worker/python/pump.h"

#include "common/loop/embedded.h"
#include "worker/python/dispatcher.h"
#include "worker/python/forked.h"

namespace mgr::python {
namespace {

// The application's own callbacks must come in between, however busy the connections are.
constexpr int kMostTurns = 8;

}  // namespace

void Pump::attach(worker::Worker& worker, Ref ask) {
  worker_ = &worker;
  ask_ = std::move(ask);
}

std::optional<Pump::Time> Pump::due() const {
  if (dispatcher_.has_work()) return worker_->loop().now();
  const auto left = time_to_next_turn(worker_->loop());
  if (!left) return std::nullopt;
  return worker_->loop().now() + *left;
}

bool Pump::turn(std::optional<std::chrono::milliseconds>& next) {
  end_if_forked();
  turning_ = true;
  asked_ = false;
  bool ok = true;
  for (int turns = 0; ok && turns < kMostTurns; ++turns) {
    Py_BEGIN_ALLOW_THREADS;
    worker_->run(std::chrono::milliseconds(0));
    Py_END_ALLOW_THREADS;
    ok = dispatcher_.dispatch() && PyErr_CheckSignals() == 0;
    planned_ = due();
    if (!planned_ || *planned_ > worker_->loop().now()) break;
  }
  turning_ = false;
  next.reset();
  if (planned_) next = *planned_ - worker_->loop().now();
  return ok;
}

void Pump::touched() {
  if (turning_ || asked_) return;
  const auto wanted = due();
  if (!wanted || (planned_ && *planned_ <= *wanted)) return;
  asked_ = true;
  if (!Ref::take(PyObject_CallFunctionObjArgs(ask_.get(), nullptr))) PyErr_Clear();
}

}  // namespace mgr::python
