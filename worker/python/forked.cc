#include "worker/python/forked.h"

#include <unistd.h>

namespace mgr::python {

void end_forked() {
  Ref exception = take_exception();
  if (!exception) exception = Ref::borrow(Py_None);
  Ref module = Ref::take(PyImport_ImportModule("mgr_host.forked"));
  if (module) Ref::take(PyObject_CallMethod(module.get(), "end", "O", exception.get()));
  ::_exit(1);
}

}  // namespace mgr::python
