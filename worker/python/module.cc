#include "worker/python/module.h"

#include "worker/python/forked.h"
#include "worker/python/handle.h"
#include "worker/python/request.h"
#include "worker/python/wsgi_file.h"
#include "worker/python/wsgi_input.h"

namespace mgr::python {
namespace {

PyObject* disconnected_error = nullptr;

PyObject* end_if_forked(PyObject*, PyObject* exception) {
  if (exception != Py_None) {
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception)), exception);
  }
  mgr::python::end_if_forked();
  PyErr_Clear();
  return none();
}

PyMethodDef functions[] = {
    {"end_if_forked", end_if_forked, METH_O,
     "end_if_forked(exception or None): ends this process, with the status that `exception` asks "
     "for, where the application has forked it"},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    "_mgr_core",
    "The part of mgr that lives in the application's interpreter.",
    -1,
    functions,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

bool make_errors(PyObject* module) {
  disconnected_error = PyErr_NewExceptionWithDoc(
      "_mgr_core.ClientDisconnected",
      "The client is gone: raised by send() (ASGI 2.4), and by wsgi.input and write().",
      PyExc_ConnectionError, nullptr);
  if (!disconnected_error) return false;
  Py_INCREF(disconnected_error);
  return PyModule_AddObject(module, "ClientDisconnected", disconnected_error) == 0;
}

}  // namespace

PyObject* client_disconnected() {
  return disconnected_error;
}

}  // namespace mgr::python

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__mgr_core() {
  using namespace mgr::python;
  Ref module = Ref::take(PyModule_Create(&definition));
  if (!module) return nullptr;
  PyObject* m = module.get();
  if (!make_errors(m) || !make_handle_type(m) || !Request::make_types(m) || !make_mold_type(m) ||
      !make_worker_type(m) || !make_wsgi_input_type(m) || !make_file_wrapper_type(m)) {
    return nullptr;
  }
  return module.release();
}
