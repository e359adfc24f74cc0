// The extensions of ASGI's HTTP (docs/extensions.rst) as far as they are announced: trailers, early
// hints, and files.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "common/base/unique_fd.h"
#include "worker/python/constants.h"
#include "worker/python/dispatcher.h"
#include "worker/python/message_fields.h"
#include "worker/python/request.h"

namespace mgr::python {

using server::Exchange;

namespace {

bool os_error(int code, PyObject* path) {
  errno = code;
  PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
  return false;
}

// Its size, where it is a regular file: nothing else has one, or is read without waiting.
bool size_of(int fd, PyObject* path, std::uint64_t& size) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return os_error(errno, path);
  if (!S_ISREG(info.st_mode)) return os_error(S_ISDIR(info.st_mode) ? EISDIR : EINVAL, path);
  size = static_cast<std::uint64_t>(info.st_size);
  return true;
}

// An optional number that is not negative; false with an exception set. `given`: it is there.
bool number(PyObject* message, PyObject* key, std::uint64_t& value, bool& given) {
  PyObject* found = PyDict_GetItemWithError(message, key);
  given = found && found != Py_None;
  if (!given) return !PyErr_Occurred();
  const long long signed_value = PyLong_AsLongLong(found);
  if (signed_value == -1 && PyErr_Occurred()) return false;
  if (signed_value < 0) {
    PyErr_Format(PyExc_ValueError, "%R of a file is negative: %R", key, found);
    return false;
  }
  value = static_cast<std::uint64_t>(signed_value);
  return true;
}

}  // namespace

Request::Sent Request::send_extension(PyObject* message, PyObject* type) {
  const Constants& c = constants();
  if (PyUnicode_Check(type)) {
    if (is(type, c.http_response_trailers)) return send_trailers(message);
    if (is(type, c.http_response_early_hint)) return send_early_hint(message);
    if (is(type, c.http_response_pathsend)) return send_path(message);
    if (is(type, c.http_response_zerocopysend)) return send_zero_copy(message);
  }
  PyErr_Format(PyExc_RuntimeError,
               "unexpected ASGI message %R: 'http.response.start', 'http.response.body' and what "
               "scope[\"extensions\"] names are known",
               type);
  return Sent::failed;
}

// The last part of a body that trailers follow does not complete the response.
bool Request::before_trailers(bool& more) {
  if (trailers_ == Trailers::due) {
    PyErr_SetString(PyExc_RuntimeError,
                    "unexpected ASGI message: 'http.response.trailers' are due after the body");
    return false;
  }
  if (!more) trailers_ = Trailers::due;
  more = true;
  return true;
}

Request::Sent Request::send_trailers(PyObject* message) {
  const Constants& c = constants();
  std::vector<Ref> kept;
  if (!take_headers(message, kept)) return Sent::failed;
  bool more = false;
  if (!flag(message, c.more_trailers, more)) return Sent::failed;
  if (!exchange_ || exchange_->response_complete()) return Sent::done;
  if (trailers_ != Trailers::due && !exchange_->disconnected()) {
    PyErr_Format(PyExc_RuntimeError, "unexpected ASGI message 'http.response.trailers': %s",
                 trailers_ == Trailers::none ? "'http.response.start' did not say 'trailers': True"
                                             : "the body is not complete");
    return Sent::failed;
  }
  const auto result = exchange_->send_trailers(dispatcher_.scratch_headers(), more);
  return sent_a_part(result, "http.response.trailers", more);
}

// RFC 8297: one response for each message.
Request::Sent Request::send_early_hint(PyObject* message) {
  const Constants& c = constants();
  PyObject* links = required(message, c.links);
  if (!links) return Sent::failed;
  std::vector<Ref> kept;
  PyObject* list = as_sequence(links, kept, "'links' is no iterable");
  if (!list) return Sent::failed;
  auto& fields = dispatcher_.scratch_headers();
  fields.clear();
  const Py_ssize_t count = PySequence_Size(list);
  for (Py_ssize_t i = 0; i < count; ++i) {
    server::HeaderField field{"Link", {}};
    if (!bytes_view(item(list, i), field.value)) return Sent::failed;
    fields.push_back(field);
  }
  if (!exchange_ || exchange_->response_complete()) return Sent::done;
  return sent_a_part(exchange_->send_interim(103, fields), "http.response.early_hint", true);
}

// ---- files

Request::Sent Request::send_path(PyObject* message) {
  const Constants& c = constants();
  PyObject* path = required(message, c.path);
  if (!path) return Sent::failed;
  if (!PyUnicode_Check(path)) {
    PyErr_Format(PyExc_TypeError, "'path' is a str, not %R", path);
    return Sent::failed;
  }
  Ref encoded = Ref::take(PyUnicode_EncodeFSDefault(path));
  char* name = nullptr;
  // Without a place for the size it refuses zeros inside.
  if (!encoded || PyBytes_AsStringAndSize(encoded.get(), &name, nullptr) != 0) return Sent::failed;
  if (name[0] != '/') {
    PyErr_Format(PyExc_ValueError, "'path' is not absolute: %R", path);
    return Sent::failed;
  }
  if (!exchange_ || exchange_->response_complete()) return Sent::done;
  if (exchange_->head_flushed() && !exchange_->disconnected()) {
    PyErr_SetString(PyExc_RuntimeError,
                    "unexpected ASGI message 'http.response.pathsend': the body has begun");
    return Sent::failed;
  }
  UniqueFd file(::open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a FIFO must not be waited for
  std::uint64_t size = 0;
  if (!file) {
    os_error(errno, path);
    return Sent::failed;
  }
  if (!size_of(file.get(), path, size)) return Sent::failed;
  return send_file({std::move(file), 0, size, false}, "http.response.pathsend");
}

Request::Sent Request::send_zero_copy(PyObject* message) {
  const Constants& c = constants();
  PyObject* object = required(message, c.file);
  if (!object) return Sent::failed;
  const int fd = PyObject_AsFileDescriptor(object);
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
  bool has_offset = false;
  bool has_count = false;
  bool more = false;
  if (fd < 0 || !number(message, c.offset, offset, has_offset) ||
      !number(message, c.count, count, has_count) || !flag(message, c.more_body, more)) {
    return Sent::failed;
  }
  if (!exchange_ || exchange_->response_complete()) return Sent::done;
  std::uint64_t size = 0;
  if (!size_of(fd, object, size)) return Sent::failed;
  const off_t position = has_offset ? 0 : ::lseek(fd, 0, SEEK_CUR);
  // The application may close its own as soon as send() returns.
  UniqueFd file(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!file || position < 0) {
    os_error(errno, object);
    return Sent::failed;
  }
  if (!has_offset) offset = static_cast<std::uint64_t>(position);
  const std::uint64_t left = size > offset ? size - offset : 0;
  count = has_count ? std::min(count, left) : left;
  const Sent sent = send_file({std::move(file), offset, count, more}, "http.response.zerocopysend");
  // As os.sendfile() does it without an offset.
  if (sent != Sent::failed && !has_offset) {
    (void)::lseek(fd, static_cast<off_t>(offset + count), SEEK_SET);
  }
  return sent;
}

// The response must not end before the file has been sent, so that send() waits for the last one
// too.
Request::Sent Request::send_file(Part part, const char* type) {
  bool more = part.more;
  if (trailers_ != Trailers::none && !before_trailers(more)) return Sent::failed;
  const auto result = exchange_->send_file(std::move(part.file), part.offset, part.count, more);
  if (result == Exchange::SendResult::full) {
    full_ = true;
    dispatcher_.touched();
    return Sent::full;
  }
  return sent_a_part(result, type, more);
}

}  // namespace mgr::python
