#include "worker/python/wsgi_head.h"

#include "common/server/syntax.h"

namespace mgr::python {
namespace {

namespace syntax = server::syntax;

// The bytes of a native string, as latin-1. `kept` owns them where that is not ASCII.
bool latin1_view(PyObject* text, Ref& kept, std::string_view& view) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(text, &size);
  if (data && size == PyUnicode_GetLength(text)) {  // ASCII
    view = {data, static_cast<std::size_t>(size)};
    return true;
  }
  PyErr_Clear();
  kept = Ref::take(PyUnicode_AsLatin1String(text));
  char* bytes = nullptr;
  if (!kept || PyBytes_AsStringAndSize(kept.get(), &bytes, &size) != 0) return false;
  view = {bytes, static_cast<std::size_t>(size)};
  return true;
}

// Of what latin1_view() has refused: says where it stands, which Python's own error does not.
bool refuse_text(const char* what, PyObject* shown) {
  if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError,
                 "start_response(): a character outside of latin-1 in the %s %R (PEP 3333, "
                 "\"Unicode Issues\")",
                 what, shown);
  }
  return false;
}

bool has_control(std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) return true;
  }
  return false;
}

// RFC 2616 13.5.1, to which PEP 3333 refers.
bool is_hop_by_hop(std::string_view name) {
  using syntax::equals_ignoring_case;
  switch (name.size()) {
    case 2:
      return equals_ignoring_case(name, "te");
    case 7:
      return equals_ignoring_case(name, "upgrade") || equals_ignoring_case(name, "trailer");
    case 8:
      return equals_ignoring_case(name, "trailers");
    case 10:
      return equals_ignoring_case(name, "connection") || equals_ignoring_case(name, "keep-alive");
    case 17:
      return equals_ignoring_case(name, "transfer-encoding");
    case 18:
      return equals_ignoring_case(name, "proxy-authenticate");
    case 19:
      return equals_ignoring_case(name, "proxy-authorization");
    default:
      return false;
  }
}

bool read_status(PyObject* status, WsgiHead& head) {
  Ref kept;
  std::string_view text;
  if (!PyUnicode_Check(status)) {
    PyErr_Format(PyExc_TypeError, "start_response(): the status is a str, not %R", status);
    return false;
  }
  if (!latin1_view(status, kept, text)) return refuse_text("status", status);
  if (text.size() < 4 || !syntax::is_digit(text[0]) || !syntax::is_digit(text[1]) ||
      !syntax::is_digit(text[2]) || text[3] != ' ' || has_control(text)) {
    PyErr_Format(PyExc_ValueError, "start_response(): the status is of the form '200 OK', not %R",
                 status);
    return false;
  }
  head.status = (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
  if (head.status < 200) {
    PyErr_Format(PyExc_ValueError, "start_response(): %R is no final status (200..999)", status);
    return false;
  }
  head.reason = text.substr(4);
  return true;
}

bool note_length(PyObject* header, std::string_view value, WsgiHead& head) {
  if (!head.has_length && syntax::parse_decimal(syntax::trim(value), head.length)) {
    head.has_length = true;
    return true;
  }
  PyErr_Format(PyExc_ValueError, "start_response(): %s Content-Length: %R",
               head.has_length ? "a second" : "malformed", header);
  return false;
}

bool read_header(PyObject* header, WsgiHead& head) {
  PyObject* name_text = nullptr;
  PyObject* value_text = nullptr;
  if (PyTuple_CheckExact(header) && PyTuple_Size(header) == 2) {
    name_text = PyTuple_GetItem(header, 0);
    value_text = PyTuple_GetItem(header, 1);
  }
  if (!name_text || !PyUnicode_Check(name_text) || !PyUnicode_Check(value_text)) {
    PyErr_Format(PyExc_TypeError, "start_response(): a header is a tuple (str, str), not %R",
                 header);
    return false;
  }
  Ref kept_name;
  Ref kept_value;
  std::string_view name;
  std::string_view value;
  if (!latin1_view(name_text, kept_name, name) || !latin1_view(value_text, kept_value, value)) {
    return refuse_text("header", header);
  }
  if (!syntax::is_token(name)) {
    PyErr_Format(PyExc_ValueError, "start_response(): HTTP forbids the name of the header %R",
                 header);
    return false;
  }
  if (has_control(value)) {
    PyErr_Format(PyExc_ValueError, "start_response(): a control character in the header %R",
                 header);
    return false;
  }
  if (is_hop_by_hop(name)) {
    PyErr_Format(PyExc_ValueError,
                 "start_response(): %R is about the connection, which is the server's (PEP 3333, "
                 "\"Other HTTP Features\")",
                 name_text);
    return false;
  }
  if (syntax::equals_ignoring_case(name, "content-length") && !note_length(header, value, head)) {
    return false;
  }
  head.text.append(name).append(value);
  head.fields.push_back(
      {static_cast<std::uint32_t>(name.size()), static_cast<std::uint32_t>(value.size())});
  return true;
}

}  // namespace

bool read_head(PyObject* status, PyObject* headers, WsgiHead& head) {
  head.status = 0;
  head.text.clear();
  head.fields.clear();
  head.has_length = false;
  head.length = 0;
  if (!read_status(status, head)) return false;
  if (!PyList_CheckExact(headers)) {
    PyErr_Format(PyExc_TypeError, "start_response(): the headers are a list, not %R", headers);
    return false;
  }
  for (Py_ssize_t i = 0; i < PyList_Size(headers); ++i) {
    if (!read_header(PyList_GetItem(headers, i), head)) return false;
  }
  return true;
}

}  // namespace mgr::python
