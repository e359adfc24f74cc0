#pragma once

#include <cstdint>

#include "common/base/unique_fd.h"
#include "worker/python/py.h"

namespace mgr::python {

// `wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling"): an iterable of the
// file's blocks, with close(). Where the application returns one itself, and the file is one of the
// system's, it is sent without being read.
PyObject* file_wrapper_type();  // borrowed
bool make_file_wrapper_type(PyObject* module);
bool is_file_wrapper(PyObject* object);

// What sendfile may send in the place of the wrapper's blocks: from the file's position to its end.
struct SendableFile {
  UniqueFd fd;  // none: it has to be iterated
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};
// `sendable` is mgr_host.wsgi.sendable(). False with an exception set.
bool find_sendable(PyObject* wrapper, PyObject* sendable, SendableFile& file);

}  // namespace mgr::python
