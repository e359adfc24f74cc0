#include "worker/python/wsgi_input.h"

#include <algorithm>
#include <limits>

#include "worker/python/constants.h"
#include "worker/python/forked.h"
#include "worker/python/module.h"
#include "worker/python/wsgi_call.h"

namespace mgr::python {
namespace {

struct InputObject {
  PyObject ob_base;
  WsgiCall* call;
};

PyTypeObject* input_type = nullptr;

constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

// The optional size of read() and its like: None and negative numbers are no limit.
bool to_limit(PyObject* args, PyObject* names, const char* format, const char* name,
              std::size_t& limit) {
  const char* const known[] = {name, nullptr};
  PyObject* size = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, names, format, const_cast<char**>(known), &size)) {
    return false;
  }
  limit = kNoLimit;
  if (size == Py_None) return true;
  const Py_ssize_t number = PyNumber_AsSsize_t(size, PyExc_OverflowError);
  if (number == -1 && PyErr_Occurred()) return false;
  if (number >= 0) limit = static_cast<std::size_t>(number);
  return true;
}

// Makes the next bytes come to hand. 1: some have; 0: the body has ended; -1: an exception is set.
int next_input(WsgiCall& call) {
  end_if_forked();
  if (!call.input().empty()) return 1;
  switch (call.more_input()) {
    case WsgiCall::Input::some:
      return 1;
    case WsgiCall::Input::end:
      return 0;
    case WsgiCall::Input::closed:
      PyErr_SetString(client_disconnected(),
                      "the rest of the request body does not come: the client has disconnected, "
                      "or was silent for body_timeout");
      return -1;
    case WsgiCall::Input::failed:
      return -1;
  }
  return -1;
}

// The parts of one result. Most results have one.
class Parts {
 public:
  bool add(std::string_view data) {
    Ref part = bytes(data);
    if (!part) return false;
    if (!first_) {
      first_ = std::move(part);
      return true;
    }
    if (!list_) {
      list_ = Ref::take(PyList_New(0));
      if (!list_ || PyList_Append(list_.get(), first_.get()) != 0) return false;
    }
    return PyList_Append(list_.get(), part.get()) == 0;
  }
  PyObject* take() {
    if (!first_) return bytes({}).release();
    if (!list_) return first_.release();
    return PyObject_CallMethod(constants().empty_bytes, "join", "O", list_.get());
  }

 private:
  Ref first_;
  Ref list_;
};

PyObject* input_read(PyObject* self, PyObject* args, PyObject* names) {
  std::size_t left;
  if (!to_limit(args, names, "|O:read", "size", left)) return nullptr;
  WsgiCall& call = call_of(self);
  Parts parts;
  while (left > 0) {
    const int got = next_input(call);
    if (got < 0) return nullptr;
    if (got == 0) break;
    const std::string_view part = call.input().substr(0, left);
    if (!parts.add(part)) return nullptr;
    left -= part.size();
    call.use_input(part.size());
  }
  return parts.take();
}

PyObject* read_line(WsgiCall& call, std::size_t left) {
  Parts parts;
  for (bool ended = false; left > 0 && !ended;) {
    const int got = next_input(call);
    if (got < 0) return nullptr;
    if (got == 0) break;
    std::string_view part = call.input().substr(0, left);
    const std::size_t end = part.find('\n');
    ended = end != std::string_view::npos;
    if (ended) part = part.substr(0, end + 1);
    if (!parts.add(part)) return nullptr;
    left -= part.size();
    call.use_input(part.size());
  }
  return parts.take();
}

PyObject* input_readline(PyObject* self, PyObject* args, PyObject* names) {
  std::size_t limit;
  if (!to_limit(args, names, "|O:readline", "size", limit)) return nullptr;
  return read_line(call_of(self), limit);
}

PyObject* input_iternext(PyObject* self) {
  Ref line = Ref::take(read_line(call_of(self), kNoLimit));
  if (!line || PyBytes_Size(line.get()) == 0) return nullptr;
  return line.release();
}

// As file objects do it: enough lines to have `hint` bytes; 0 is no limit.
PyObject* input_readlines(PyObject* self, PyObject* args, PyObject* names) {
  std::size_t hint;
  if (!to_limit(args, names, "|O:readlines", "hint", hint)) return nullptr;
  if (hint == 0) hint = kNoLimit;
  Ref list = Ref::take(PyList_New(0));
  for (std::size_t size = 0; list && size < hint;) {
    Ref line = Ref::take(read_line(call_of(self), kNoLimit));
    if (!line) return nullptr;
    const auto length = static_cast<std::size_t>(PyBytes_Size(line.get()));
    if (length == 0) break;
    if (PyList_Append(list.get(), line.get()) != 0) return nullptr;
    size += length;
  }
  return list.release();
}

PyObject* input_iter(PyObject* self) {
  Py_INCREF(self);
  return self;
}

void input_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  call_of(self).drop();
  PyObject_Free(self);
  Py_DECREF(type);
}

template <typename Function>
PyCFunction with_names(Function function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(function));
}

PyMethodDef input_methods[] = {
    {"read", with_names(input_read), METH_VARARGS | METH_KEYWORDS,
     "read([size]): so many bytes, or fewer at the end"},
    {"readline", with_names(input_readline), METH_VARARGS | METH_KEYWORDS, "readline([size])"},
    {"readlines", with_names(input_readlines), METH_VARARGS | METH_KEYWORDS, "readlines([hint])"},
    {nullptr, nullptr, 0, nullptr},
};

template <typename Function>
void* slot(Function function) {
  return reinterpret_cast<void*>(function);
}

PyType_Slot input_slots[] = {
    {Py_tp_dealloc, slot(input_dealloc)},
    {Py_tp_iter, slot(input_iter)},
    {Py_tp_iternext, slot(input_iternext)},
    {Py_tp_methods, input_methods},
    {0, nullptr},
};

PyType_Spec input_spec = {"_mgr_core.Input", sizeof(InputObject), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, input_slots};

}  // namespace

Ref new_wsgi_input(WsgiCall& call) {
  auto* object = PyObject_New(InputObject, input_type);
  if (!object) return {};
  call.hold();
  object->call = &call;
  return Ref::take(reinterpret_cast<PyObject*>(object));
}

WsgiCall& call_of(PyObject* input) {
  return *reinterpret_cast<InputObject*>(input)->call;
}

bool make_wsgi_input_type(PyObject* module) {
  input_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&input_spec));
  if (!input_type) return false;
  Py_INCREF(reinterpret_cast<PyObject*>(input_type));
  return PyModule_AddObject(module, "Input", reinterpret_cast<PyObject*>(input_type)) == 0;
}

}  // namespace mgr::python
