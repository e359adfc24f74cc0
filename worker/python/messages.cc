// What receive() gives and send() takes: ASGI's HTTP messages (spec www.rst 2.5).

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "common/server/syntax.h"
#include "worker/python/constants.h"
#include "worker/python/dispatcher.h"
#include "worker/python/forked.h"
#include "worker/python/message_fields.h"
#include "worker/python/module.h"
#include "worker/python/request.h"

namespace mgr::python {

using server::Exchange;

namespace {

enum class Kind { start, body };

// Tells what a message's type says. The strings that did so last are remembered, as an application
// sends the same objects again and again. Guarded by the GIL.
class Kinds {
 public:
  std::optional<Kind> of(PyObject* type) {
    for (std::size_t i = 0; i < last_.size(); ++i) {
      if (type == last_[i]) return static_cast<Kind>(i);
    }
    if (!PyUnicode_Check(type)) return std::nullopt;
    const Constants& c = constants();
    const std::array names{c.http_response_start, c.http_response_body};
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (PyUnicode_Compare(type, names[i]) != 0) continue;
      Py_INCREF(type);
      Py_XDECREF(std::exchange(last_[i], type));
      return static_cast<Kind>(i);
    }
    return std::nullopt;
  }

 private:
  std::array<PyObject*, 2> last_{};  // by Kind
};
Kinds kinds;

// What HTTP forbids in a field; null: nothing.
const char* fault_of(const server::HeaderField& field, bool& has_length) {
  namespace syntax = server::syntax;
  if (!syntax::is_token(field.name)) return "HTTP forbids the name of the header";
  if (!syntax::is_field_value(field.value)) return "a control character in the header";
  if (!syntax::equals_ignoring_case(field.name, "content-length")) return nullptr;
  if (std::exchange(has_length, true)) return "a second Content-Length:";
  std::uint64_t length = 0;
  const bool good = syntax::parse_decimal(syntax::trim(field.value), length);
  return good ? nullptr : "malformed Content-Length:";
}

// Says why the server has refused the fields of a message.
void raise_bad_field(const std::vector<server::HeaderField>& fields, const char* type) {
  bool has_length = false;
  for (const server::HeaderField& field : fields) {
    const char* fault = fault_of(field, has_length);
    if (!fault) continue;
    Ref name = bytes(field.name);
    Ref value = name ? bytes(field.value) : Ref();
    if (value) {
      PyErr_Format(PyExc_ValueError, "'%s': %s (%R, %R)", type, fault, name.get(), value.get());
    }
    return;
  }
  PyErr_Format(PyExc_ValueError, "'%s': HTTP forbids a header's name or value", type);
}

}  // namespace

bool Request::over() const {
  return !exchange_ || exchange_->response_complete() || exchange_->disconnected();
}

PyObject* Request::disconnect_message() const {
  const Constants& c = constants();
  Ref message = Ref::take(PyDict_New());
  if (!message || PyDict_SetItem(message.get(), c.type, c.http_disconnect) != 0) return nullptr;
  return message.release();
}

PyObject* Request::take_message() {
  end_if_forked();
  if (over()) return disconnect_message();
  if (body_given_) return exchange_->input_ended() ? disconnect_message() : nullptr;
  if (!asked_) {
    asked_ = true;
    exchange_->want_body();
    dispatcher_.touched();
  }
  const std::string_view available = exchange_->body();
  const bool complete = exchange_->body_complete();
  if (available.empty() && !complete) return nullptr;
  const Constants& c = constants();
  Ref message = Ref::take(PyDict_New());
  Ref body = available.empty() ? Ref::borrow(c.empty_bytes) : bytes(available);
  if (!message || !body || PyDict_SetItem(message.get(), c.type, c.http_request) != 0 ||
      PyDict_SetItem(message.get(), c.body, body.get()) != 0 ||
      PyDict_SetItem(message.get(), c.more_body, complete ? Py_False : Py_True) != 0) {
    return nullptr;
  }
  body_given_ = complete;
  if (!available.empty()) exchange_->consume(available.size());
  dispatcher_.touched();
  return message.release();
}

Request::Flow Request::flow() const {
  end_if_forked();
  if (!exchange_ || exchange_->response_complete()) return Flow::open;
  if (exchange_->disconnected()) return Flow::gone;
  return full_ ? Flow::full : Flow::open;
}

void Request::raise_disconnected() {
  PyErr_SetString(client_disconnected(), "the client has disconnected");
}

Request::Sent Request::send(PyObject* message) {
  end_if_forked();
  const Constants& c = constants();
  if (!PyDict_CheckExact(message) && !PyDict_Check(message)) {
    PyErr_Format(PyExc_TypeError, "an ASGI message is a dict, not %R", message);
    return Sent::failed;
  }
  PyObject* type = required(message, c.type);
  if (!type) return Sent::failed;
  if (const auto kind = kinds.of(type)) {
    switch (*kind) {
      case Kind::start:
        return send_start(message);
      case Kind::body:
        return send_body(message);
    }
  }
  return send_extension(message, type);
}

bool Request::collect_headers(PyObject* headers, std::vector<Ref>& kept) {
  auto& fields = dispatcher_.scratch_headers();
  fields.clear();
  PyObject* list = as_sequence(headers, kept, "'headers' is no iterable");
  if (!list) return false;
  const Py_ssize_t count = PySequence_Size(list);
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* pair = as_sequence(item(list, i), kept, "an item of 'headers' is no iterable");
    if (!pair) return false;
    if (PySequence_Size(pair) != 2) {
      PyErr_SetString(PyExc_ValueError, "an item of 'headers' is not a pair of name and value");
      return false;
    }
    server::HeaderField field;
    if (!bytes_view(item(pair, 0), field.name) || !bytes_view(item(pair, 1), field.value))
      return false;
    fields.push_back(field);
  }
  return true;
}

// The optional key of both that have it.
bool Request::take_headers(PyObject* message, std::vector<Ref>& kept) {
  PyObject* headers = PyDict_GetItemWithError(message, constants().headers);
  if (headers) return collect_headers(headers, kept);
  dispatcher_.scratch_headers().clear();
  return !PyErr_Occurred();
}

Request::Sent Request::send_start(PyObject* message) {
  const Constants& c = constants();
  PyObject* status = required(message, c.status);
  if (!status) return Sent::failed;
  const long code = PyLong_AsLong(status);
  if (code == -1 && PyErr_Occurred()) return Sent::failed;
  std::vector<Ref> kept;
  if (!take_headers(message, kept)) return Sent::failed;
  bool trailers = false;
  if (!flag(message, c.trailers, trailers)) return Sent::failed;
  if (code < 200 || code > 999) {
    PyErr_Format(PyExc_ValueError, "'http.response.start': %ld is no final status (200..999)",
                 code);
    return Sent::failed;
  }
  if (!exchange_ || exchange_->response_complete()) return Sent::done;
  const auto result = exchange_->send_head(static_cast<int>(code), dispatcher_.scratch_headers());
  if (trailers && result == Exchange::SendResult::sent) trailers_ = Trailers::announced;
  return outcome_of(result, "http.response.start", true);
}

Request::Sent Request::send_body(PyObject* message) {
  const Constants& c = constants();
  PyObject* body = PyDict_GetItemWithError(message, c.body);
  if (!body && PyErr_Occurred()) return Sent::failed;
  bool more = false;
  if (!flag(message, c.more_body, more)) return Sent::failed;
  Block block(body);
  if (!block.ok()) return Sent::failed;
  if (!exchange_ || exchange_->response_complete()) return Sent::done;
  if (trailers_ != Trailers::none && !before_trailers(more)) return Sent::failed;
  const auto result = exchange_->send_body(block.view(), more);
  return sent_a_part(result, "http.response.body", more);
}

Request::Sent Request::sent_a_part(Exchange::SendResult result, const char* type, bool more) {
  if (result == Exchange::SendResult::full) full_ = true;
  if (!more && !receivers_.empty()) dispatcher_.mark(*this);  // http.disconnect is due
  return outcome_of(result, type, more);
}

Request::Sent Request::outcome_of(Exchange::SendResult result, const char* type, bool more) {
  dispatcher_.touched();
  switch (result) {
    case Exchange::SendResult::sent:
      return Sent::done;
    case Exchange::SendResult::full:
      return more ? Sent::full : Sent::done;
    case Exchange::SendResult::closed:
      raise_disconnected();
      return Sent::failed;
    case Exchange::SendResult::too_long:
      PyErr_SetString(PyExc_RuntimeError, "the response is longer than its Content-Length");
      return Sent::failed;
    case Exchange::SendResult::too_short:
      PyErr_SetString(PyExc_RuntimeError, "the response is shorter than its Content-Length");
      return Sent::failed;
    case Exchange::SendResult::bad_head:
      raise_bad_field(dispatcher_.scratch_headers(), type);
      return Sent::failed;
    case Exchange::SendResult::wrong_order:
      PyErr_Format(PyExc_RuntimeError, "unexpected ASGI message '%s': the response has %s", type,
                   exchange_->head_sent() ? "started" : "not started");
      return Sent::failed;
  }
  return Sent::failed;
}

}  // namespace mgr::python
