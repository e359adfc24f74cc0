#pragma once

#include <string_view>
#include <vector>

#include "worker/python/py.h"

// Reading what the application gives to send().
namespace mgr::python {

// Equal, as texts.
inline bool is(PyObject* text, PyObject* constant) {
  return text == constant || PyUnicode_Compare(text, constant) == 0;
}

// A contiguous block of bytes borrowed from bytes or from any other object with a buffer.
class Block {
 public:
  explicit Block(PyObject* object) {
    if (!object) {
      ok_ = true;
      return;
    }
    char* data = nullptr;
    Py_ssize_t size = 0;
    if (PyBytes_Check(object)) {
      ok_ = PyBytes_AsStringAndSize(object, &data, &size) == 0;
      view_ = {data, static_cast<std::size_t>(size)};
      return;
    }
    if (PyObject_GetBuffer(object, &buffer_, PyBUF_SIMPLE) != 0) return;
    ok_ = held_ = true;
    view_ = {static_cast<const char*>(buffer_.buf), static_cast<std::size_t>(buffer_.len)};
  }
  ~Block() {
    if (held_) PyBuffer_Release(&buffer_);
  }
  Block(const Block&) = delete;
  bool ok() const { return ok_; }
  std::string_view view() const { return view_; }

 private:
  Py_buffer buffer_{};
  std::string_view view_;
  bool ok_ = false;
  bool held_ = false;
};

// The bytes of a bytes object; false with an exception set.
inline bool bytes_view(PyObject* object, std::string_view& view) {
  char* data = nullptr;
  Py_ssize_t size = 0;
  if (!PyBytes_Check(object)) {
    PyErr_Format(PyExc_TypeError, "header names and values are bytes, not %R", object);
    return false;
  }
  if (PyBytes_AsStringAndSize(object, &data, &size) != 0) return false;
  view = {data, static_cast<std::size_t>(size)};
  return true;
}

// Item `index` of a list or tuple, borrowed.
inline PyObject* item(PyObject* sequence, Py_ssize_t index) {
  return PyList_Check(sequence) ? PyList_GetItem(sequence, index)
                                : PyTuple_GetItem(sequence, index);
}

// `object` as list or tuple; `kept` owns the copy that any other iterable needs.
inline PyObject* as_sequence(PyObject* object, std::vector<Ref>& kept, const char* message) {
  if (PyList_Check(object) || PyTuple_Check(object)) return object;
  Ref copy = Ref::take(PySequence_Fast(object, message));
  if (!copy) return nullptr;
  kept.push_back(std::move(copy));
  return kept.back().get();
}

// An optional truth value; false with an exception set.
inline bool flag(PyObject* message, PyObject* key, bool& value) {
  PyObject* found = PyDict_GetItemWithError(message, key);
  if (!found) return !PyErr_Occurred();
  const int truth = PyObject_IsTrue(found);
  value = truth > 0;
  return truth >= 0;
}

// A key that must be there, borrowed; null with KeyError set.
inline PyObject* required(PyObject* message, PyObject* key) {
  PyObject* value = PyDict_GetItemWithError(message, key);
  if (!value && !PyErr_Occurred()) PyErr_SetObject(PyExc_KeyError, key);
  return value;
}

}  // namespace mgr::python
