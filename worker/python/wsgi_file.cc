#include "worker/python/wsgi_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "worker/python/constants.h"

namespace mgr::python {
namespace {

struct FileWrapper {
  PyObject ob_base;
  PyObject* filelike;
  PyObject* block_size;
};

PyTypeObject* wrapper_type = nullptr;

FileWrapper& as_wrapper(PyObject* self) {
  return *reinterpret_cast<FileWrapper*>(self);
}

PyObject* wrapper_new(PyTypeObject* type, PyObject* args, PyObject* names) {
  static const char* const kNames[] = {"filelike", "blksize", nullptr};
  PyObject* filelike;
  Py_ssize_t block_size = 8192;
  if (!PyArg_ParseTupleAndKeywords(args, names, "O|n", const_cast<char**>(kNames), &filelike,
                                   &block_size)) {
    return nullptr;
  }
  Ref size = Ref::take(PyLong_FromSsize_t(block_size));
  Ref object = size ? Ref::take(PyType_GenericAlloc(type, 0)) : Ref();
  if (!object) return nullptr;
  Py_INCREF(filelike);
  as_wrapper(object.get()).filelike = filelike;
  as_wrapper(object.get()).block_size = size.release();
  return object.release();
}

int wrapper_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(as_wrapper(self).filelike);
  return 0;
}

int wrapper_clear(PyObject* self) {
  Py_CLEAR(as_wrapper(self).filelike);
  return 0;
}

void wrapper_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  wrapper_clear(self);
  Py_CLEAR(as_wrapper(self).block_size);
  PyObject_GC_Del(self);
  Py_DECREF(type);
}

PyObject* wrapper_iter(PyObject* self) {
  Py_INCREF(self);
  return self;
}

PyObject* wrapper_iternext(PyObject* self) {
  FileWrapper& wrapper = as_wrapper(self);
  Ref block = Ref::take(PyObject_CallMethod(wrapper.filelike, "read", "O", wrapper.block_size));
  if (!block) return nullptr;
  const int any = PyObject_IsTrue(block.get());
  return any > 0 ? block.release() : nullptr;
}

PyObject* wrapper_close(PyObject* self, PyObject*) {
  Ref close = Ref::take(PyObject_GetAttr(as_wrapper(self).filelike, constants().close));
  if (close) return PyObject_CallObject(close.get(), nullptr);
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return nullptr;
  PyErr_Clear();
  return none();
}

PyMethodDef wrapper_methods[] = {
    {"close", wrapper_close, METH_NOARGS, "Closes the file."},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef wrapper_members[] = {
    {"filelike", T_OBJECT, offsetof(FileWrapper, filelike), READONLY, nullptr},
    {"blksize", T_OBJECT, offsetof(FileWrapper, block_size), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

template <typename Function>
void* slot(Function function) {
  return reinterpret_cast<void*>(function);
}

PyType_Slot wrapper_slots[] = {
    {Py_tp_new, slot(wrapper_new)},
    {Py_tp_dealloc, slot(wrapper_dealloc)},
    {Py_tp_traverse, slot(wrapper_traverse)},
    {Py_tp_clear, slot(wrapper_clear)},
    {Py_tp_iter, slot(wrapper_iter)},
    {Py_tp_iternext, slot(wrapper_iternext)},
    {Py_tp_methods, wrapper_methods},
    {Py_tp_members, wrapper_members},
    {0, nullptr},
};

PyType_Spec wrapper_spec = {"_mgr_core.FileWrapper", sizeof(FileWrapper), 0,
                            Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, wrapper_slots};

}  // namespace

PyObject* file_wrapper_type() {
  return reinterpret_cast<PyObject*>(wrapper_type);
}

bool is_file_wrapper(PyObject* object) {
  return Py_TYPE(object) == wrapper_type;
}

bool make_file_wrapper_type(PyObject* module) {
  wrapper_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&wrapper_spec));
  if (!wrapper_type) return false;
  Py_INCREF(reinterpret_cast<PyObject*>(wrapper_type));
  return PyModule_AddObject(module, "FileWrapper", reinterpret_cast<PyObject*>(wrapper_type)) == 0;
}

bool find_sendable(PyObject* wrapper, PyObject* sendable, SendableFile& file) {
  Ref found =
      Ref::take(PyObject_CallFunctionObjArgs(sendable, as_wrapper(wrapper).filelike, nullptr));
  if (!found) return false;
  if (found.get() == Py_None) return true;
  int fd;
  long long position;
  if (!PyArg_ParseTuple(found.get(), "iL", &fd, &position)) return false;
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  struct stat info {};
  if (!copy || ::fstat(copy.get(), &info) != 0) {
    PyErr_SetFromErrno(PyExc_OSError);
    return false;
  }
  file.offset = static_cast<std::uint64_t>(position);
  file.size = info.st_size > position ? static_cast<std::uint64_t>(info.st_size - position) : 0;
  file.fd = std::move(copy);
  return true;
}

}  // namespace mgr::python
