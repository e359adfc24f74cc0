#pragma once

// The only place that includes Python.h (limited API, see CMakeLists.txt).
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <string>
#include <string_view>
#include <utility>

namespace mgr::python {

// Owns one reference; null is none. Move-only. The GIL must be held wherever one dies.
class Ref {
 public:
  Ref() = default;
  static Ref take(PyObject* owned) { return Ref(owned); }
  static Ref borrow(PyObject* object) {
    Py_XINCREF(object);
    return Ref(object);
  }
  Ref(Ref&& other) noexcept : object_(other.release()) {}
  Ref& operator=(Ref&& other) noexcept {
    PyObject* old = std::exchange(object_, other.release());
    Py_XDECREF(old);
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }

  PyObject* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  // Another reference to the same object.
  PyObject* new_ref() const {
    Py_XINCREF(object_);
    return object_;
  }
  void clear() { Ref dropped(std::move(*this)); }

 private:
  explicit Ref(PyObject* object) : object_(object) {}
  PyObject* object_ = nullptr;
};

inline PyObject* none() {
  Py_INCREF(Py_None);
  return Py_None;
}
inline Ref string(std::string_view text) {
  return Ref::take(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
}
inline Ref bytes(std::string_view data) {
  return Ref::take(PyBytes_FromStringAndSize(data.data(), static_cast<Py_ssize_t>(data.size())));
}

// UTF-8 of a str, whatever it holds (lone surrogates become escapes); empty with an exception set
// where it is none.
std::string utf8(PyObject* text);

// Takes the pending exception as one object with its traceback attached; null where there is none.
Ref take_exception();

// Makes the result of a step of an iterator what tp_iternext returns: a value, or null with
// StopIteration(value) set (nothing set for None).
PyObject* as_iternext(PySendResult outcome, PyObject* result);

// send(), throw() and iteration of a type whose steps are `am_send` are the same for all.
PyObject* as_method_send(PySendResult outcome, PyObject* result);

// Sets the exception that throw(type[, value[, traceback]]) was called with.
void set_thrown(PyObject* args);

}  // namespace mgr::python
