#include "worker/python/wsgi_run.h"

#include <algorithm>
#include <utility>

#include "worker/python/constants.h"
#include "worker/python/forked.h"
#include "worker/python/module.h"
#include "worker/python/wsgi_call.h"
#include "worker/python/wsgi_file.h"
#include "worker/python/wsgi_head.h"
#include "worker/python/wsgi_host.h"
#include "worker/python/wsgi_input.h"

namespace mgr::python {
namespace {

// What became of a part of the response.
enum class Put {
  taken,   // go on
  lent,    // the last of it: close_lent() follows
  over,    // nothing more is wanted
  failed,  // with an exception set
};

bool is_bodyless(const WsgiCall& call) {
  return call.head.status == 204 || call.head.status == 304 || call.request().method == "HEAD";
}

bool is_started(const WsgiCall& call) {
  if (call.head.status != 0) return true;
  PyErr_SetString(PyExc_RuntimeError,
                  "the application did not call start_response() before the body");
  return false;
}

// Never more than Content-Length; with its last byte the response ends. False: too little, which is
// told.
bool fit_to_length(WsgiHost& host, WsgiCall& call, std::string_view& data, bool& last) {
  if (!call.head.has_length) return true;
  const std::uint64_t left = call.head.length - call.body_given();
  if (data.size() > left) {
    host.log().error("{}: the body is longer than its Content-Length of {}; the rest is dropped",
                     call.line(), call.head.length);
    data = data.substr(0, static_cast<std::size_t>(left));
  }
  if (data.size() == left) last = true;
  if (!last || data.size() == left) return true;
  host.log().error("{}: the body is shorter than its Content-Length: {} of {} bytes", call.line(),
                   call.body_given() + data.size(), call.head.length);
  return false;
}

Put put(WsgiHost& host, WsgiCall& call, std::string_view data, bool last,
        WsgiCall::Wake wake = WsgiCall::Wake::now) {
  if (!is_started(call)) return Put::failed;
  if (data.empty() && !last) return Put::taken;
  if (call.answered()) {
    if (data.empty()) return Put::taken;
    if (!is_bodyless(call)) fit_to_length(host, call, data, last);
    return Put::over;
  }
  if (is_bodyless(call)) {
    // What a GET would have as its length, where that is known.
    if (!last) data = {};
    last = true;
  } else if (!fit_to_length(host, call, data, last)) {
    if (!data.empty() && call.send(data, false) == WsgiCall::Sent::failed) return Put::failed;
    call.fail();
    return Put::over;
  }
  switch (call.send(data, last, wake)) {
    case WsgiCall::Sent::taken:
      return Put::taken;
    case WsgiCall::Sent::lent:
      return Put::lent;
    case WsgiCall::Sent::closed:
      return Put::over;
    case WsgiCall::Sent::failed:
      break;
  }
  return Put::failed;
}

bool bytes_of(PyObject* item, std::string_view& data) {
  char* start = nullptr;
  Py_ssize_t size = 0;
  if (!PyBytes_Check(item)) {
    PyErr_Format(PyExc_TypeError, "the body of a response is made of bytes, not %R", item);
    return false;
  }
  if (PyBytes_AsStringAndSize(item, &start, &size) != 0) return false;
  data = {start, static_cast<std::size_t>(size)};
  return true;
}

// ---- start_response() and write(), bound to the request's input

PyObject* call_write(PyObject* self, PyObject* data);
PyMethodDef write_def = {"write", call_write, METH_O,
                         "write(bytes): sends it at once (PEP 3333, \"The write() Callable\")"};

bool is_running(const WsgiCall& call) {
  if (!call.finished()) return true;
  PyErr_SetString(PyExc_RuntimeError, "the request is over");
  return false;
}

PyObject* call_write(PyObject* self, PyObject* item) {
  end_if_forked();
  WsgiCall& call = call_of(self);
  std::string_view data;
  if (!is_running(call) || !bytes_of(item, data)) return nullptr;
  switch (put(call.host(), call, data, false)) {
    case Put::taken:
      return none();
    case Put::failed:
      return nullptr;
    case Put::lent:  // with the last byte of Content-Length
      call.lent.item = Ref::borrow(item);
      return none();
    case Put::over:
      break;
  }
  if (call.lost()) {
    PyErr_SetString(client_disconnected(), "the client has disconnected");
    return nullptr;
  }
  if (is_bodyless(call)) return none();
  PyErr_SetString(PyExc_RuntimeError, "write() beyond the Content-Length");
  return nullptr;
}

// exc_info as sys.exc_info() gives it, raised again.
void raise_again(PyObject* exc_info) {
  PyObject* type;
  PyObject* value;
  PyObject* traceback;
  if (!PyTuple_Check(exc_info) ||
      !PyArg_UnpackTuple(exc_info, "exc_info", 3, 3, &type, &value, &traceback)) {
    PyErr_Format(PyExc_TypeError, "start_response(): exc_info is what sys.exc_info() gives, not %R",
                 exc_info);
    return;
  }
  if (traceback == Py_None) traceback = nullptr;
  Py_INCREF(type);
  Py_INCREF(value);
  Py_XINCREF(traceback);
  PyErr_Restore(type, value, traceback);
}

PyObject* call_start_response(PyObject* self, PyObject* args, PyObject* names) {
  static const char* const kNames[] = {"status", "headers", "exc_info", nullptr};
  PyObject* status;
  PyObject* headers;
  PyObject* exc_info = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, names, "OO|O:start_response", const_cast<char**>(kNames),
                                   &status, &headers, &exc_info)) {
    return nullptr;
  }
  WsgiCall& call = call_of(self);
  if (!is_running(call)) return nullptr;
  if (exc_info != Py_None && call.head_given()) {
    raise_again(exc_info);
    return nullptr;
  }
  if (exc_info == Py_None && call.head.status != 0) {
    PyErr_SetString(PyExc_RuntimeError, "start_response() was called again, without exc_info");
    return nullptr;
  }
  if (!read_head(status, headers, call.next_head)) return nullptr;
  std::swap(call.head, call.next_head);
  return PyCFunction_NewEx(&write_def, self, nullptr);
}

template <typename Function>
PyCFunction with_names(Function function) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(function));
}

PyMethodDef start_response_def = {"start_response", with_names(call_start_response),
                                  METH_VARARGS | METH_KEYWORDS,
                                  "start_response(status, headers, exc_info=None) -> write"};

// ---- the body

// The response's end, where the body had none of its own.
Put put_end(WsgiHost& host, WsgiCall& call, WsgiCall::Wake wake) {
  if (call.answered()) return Put::taken;
  return put(host, call, {}, true, wake);
}

Put put_item(WsgiHost& host, WsgiCall& call, PyObject* item, bool last, WsgiCall::Wake wake) {
  std::string_view data;
  if (!bytes_of(item, data)) return Put::failed;
  const Put result = put(host, call, data, last, wake);
  if (result == Put::lent) call.lent.item = Ref::borrow(item);
  return result;
}

Put put_sequence(WsgiHost& host, WsgiCall& call, PyObject* sequence) {
  const bool is_list = PyList_Check(sequence);
  const auto size = [&] { return is_list ? PyList_Size(sequence) : PyTuple_Size(sequence); };
  for (Py_ssize_t i = 0; i < size(); ++i) {
    Ref item = Ref::borrow(is_list ? PyList_GetItem(sequence, i) : PyTuple_GetItem(sequence, i));
    const bool last = i + 1 == size();
    const Put result = put_item(host, call, item.get(), last,
                                last ? WsgiCall::Wake::by_finish : WsgiCall::Wake::now);
    if (result != Put::taken) return result;
  }
  return put_end(host, call, WsgiCall::Wake::by_finish);
}

// True for a sized iterable of one item, whose Content-Length is that item's.
bool has_one_item(PyObject* iterable) {
  if (!PyType_GetSlot(Py_TYPE(iterable), Py_sq_length)) return false;
  const Py_ssize_t size = PyObject_Size(iterable);
  if (size < 0) PyErr_Clear();
  return size == 1;
}

// Beyond the end of the response too, for what the iterable does after its last item.
Put put_items(WsgiHost& host, WsgiCall& call, PyObject* iterator, bool one) {
  for (;;) {
    Ref item = Ref::take(PyIter_Next(iterator));
    end_if_forked();
    if (!item) break;
    const Put result = put_item(host, call, item.get(), one, WsgiCall::Wake::now);
    if (result != Put::taken) return result;
    if (call.answered() && is_bodyless(call)) return Put::over;
  }
  if (PyErr_Occurred()) return Put::failed;
  return put_end(host, call, WsgiCall::Wake::now);
}

Put put_iterable(WsgiHost& host, WsgiCall& call, PyObject* iterable) {
  const bool one = has_one_item(iterable);
  Ref iterator = Ref::take(PyObject_GetIter(iterable));
  if (!iterator) return Put::failed;
  const Put result = put_items(host, call, iterator.get(), one);
  if (result == Put::lent) call.lent.iterator = std::move(iterator);
  return result;
}

Put put_file(WsgiHost& host, WsgiCall& call, PyObject* wrapper) {
  if (!is_started(call)) return Put::failed;
  SendableFile file;
  if (!find_sendable(wrapper, host.callables().sendable.get(), file)) return Put::failed;
  if (!file.fd || is_bodyless(call) || call.answered()) return put_iterable(host, call, wrapper);
  const std::uint64_t left =
      call.head.has_length ? call.head.length - call.body_given() : file.size;
  if (file.size < left) {
    host.log().error("{}: the file is shorter than the Content-Length: {} of {} bytes", call.line(),
                     call.body_given() + file.size, call.head.length);
    call.fail();
    return Put::over;
  }
  if (left == 0) return put_end(host, call, WsgiCall::Wake::now);
  switch (call.send_file(std::move(file.fd), file.offset, left)) {
    case WsgiCall::Sent::taken:
      return Put::taken;
    case WsgiCall::Sent::lent:
      return Put::lent;
    case WsgiCall::Sent::closed:
      return Put::over;
    case WsgiCall::Sent::failed:
      break;
  }
  return Put::failed;
}

Put put_body(WsgiHost& host, WsgiCall& call, PyObject* result) {
  if (PyList_CheckExact(result) || PyTuple_CheckExact(result)) {
    return put_sequence(host, call, result);
  }
  if (is_file_wrapper(result)) return put_file(host, call, result);
  if (result == Py_None) {
    PyErr_SetString(PyExc_TypeError,
                    "the application returned None, where an iterable of bytes is due");
    return Put::failed;
  }
  return put_iterable(host, call, result);
}

void log_and_fail(WsgiHost& host, WsgiCall& call) {
  end_if_forked();
  Ref exception = take_exception();
  host.log_exception(call.line(), exception.get());
  call.fail();
}

// "must be called upon completion of the current request, whether normally or early"
void close_iterable(WsgiHost& host, WsgiCall& call, PyObject* iterable) {
  if (PyList_CheckExact(iterable) || PyTuple_CheckExact(iterable)) return;
  Ref close = Ref::take(PyObject_GetAttr(iterable, constants().close));
  if (!close && PyErr_ExceptionMatches(PyExc_AttributeError)) return PyErr_Clear();
  const bool closed = close && Ref::take(PyObject_CallObject(close.get(), nullptr));
  end_if_forked();
  if (closed) return;
  Ref exception = take_exception();
  host.log_exception(call.line(), exception.get());
}

// Calls the application. False: the end comes by close_lent().
bool run(WsgiHost& host, WsgiCall& call) {
  Ref input = new_wsgi_input(call);
  Ref environ = input ? host.environs().build(call.request(), input.get()) : Ref();
  Ref start =
      environ ? Ref::take(PyCFunction_NewEx(&start_response_def, input.get(), nullptr)) : Ref();
  Ref result = start ? Ref::take(PyObject_CallFunctionObjArgs(host.callables().application.get(),
                                                              environ.get(), start.get(), nullptr))
                     : Ref();
  end_if_forked();
  if (!result || put_body(host, call, result.get()) == Put::failed) log_and_fail(host, call);
  if (call.is_lent()) {
    call.lent.iterable = std::move(result);
    return false;
  }
  if (result) close_iterable(host, call, result.get());
  return true;
}

}  // namespace

void run_call(WsgiHost& host, WsgiCall& call) {
  if (run(host, call)) call.finish();
}

void close_lent(WsgiHost& host, WsgiCall& call) {
  WsgiCall::Lent lent = std::exchange(call.lent, {});
  if (lent.iterator && !call.lost() &&
      put_items(host, call, lent.iterator.get(), false) == Put::failed) {
    log_and_fail(host, call);
  }
  if (lent.iterable) close_iterable(host, call, lent.iterable.get());
  lent = {};
  call.finish();
}

}  // namespace mgr::python
