#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/unique_fd.h"

namespace mgr::server {

// One field of a head. In requests the name is lower-case.
struct HeaderField {
  std::string_view name;
  std::string_view value;
};

enum class HttpVersion { http10, http11 };

// Who is at the other end, after the trusted_proxies policy (scheme, client) and before it (peer).
struct Endpoint {
  std::string host;  // numeric address; for a Unix socket the path, or empty for a client
  int port = 0;
  bool is_unix = false;
};

// A parsed request head. All views stay valid until Exchange::release().
struct Request {
  HttpVersion version = HttpVersion::http11;
  std::string_view method;    // upper-case token as received
  std::string_view target;    // request-target as received
  std::string_view raw_path;  // target without the query (RFC 9112 3.2; absolute-form reduced)
  std::string_view query;     // after '?', without it
  std::string_view scheme;    // "http" or "https" (X-Forwarded-Proto of a trusted proxy)
  std::vector<HeaderField> headers;
  const Endpoint* client = nullptr;  // by the forwarding policy; null when unknown (Unix socket)
  const Endpoint* server = nullptr;  // the address that the connection came to
  bool has_body = false;             // Content-Length above 0, or chunked
};

class Exchange;

// What the application's side of one exchange hears. All calls come from inside the loop's turn;
// none of them may call back into the application's language (a host marks, and acts later).
class ExchangeObserver {
 public:
  // body() has grown, or the body has become complete.
  virtual void on_body(Exchange& exchange) noexcept = 0;
  // Output fell below the low-water mark after send_body() had said `full`, or the file that
  // send_file() said it of is sent.
  virtual void on_drain(Exchange& exchange) noexcept = 0;
  // The client is gone (or a timeout or a protocol error ended the connection) before the response
  // was complete. Later sends return `closed`. At most once.
  virtual void on_disconnect(Exchange& exchange) noexcept = 0;
  // request_timeout is over, and the response is not complete: calls time_out(), now or as soon as
  // nobody else uses the exchange, and cancels what works on it. At most once.
  virtual void on_timeout(Exchange& exchange) noexcept;
  // The client has closed its direction of the connection after a complete request, and nothing was
  // sent in the second since then: it has most probably gone, but may still be reading (RFC 9293
  // 3.6). Only a write can tell, so the exchange stays open. At most once; nothing by default.
  virtual void on_input_end(Exchange&) noexcept {}

 protected:
  ~ExchangeObserver() = default;
};

// One request and its response, whatever the protocol below (RFC 9110 3.4).
//
// Made by the protocol, which calls Application::on_request() with it once the head is complete.
// It lives until the application calls release(), even where the connection is gone by then; the
// application calls release() exactly once, after which it must not touch it. A release before the
// response is complete ends the connection (500 first, if no head has been sent).
// The next request of the connection is parsed as soon as the response is complete, released or
// not.
class Exchange {
 public:
  virtual const Request& request() const = 0;
  virtual void set_observer(ExchangeObserver* observer) = 0;  // null: none
  // Free for the application.
  void* user_data = nullptr;

  // ---- request body: a stream with back-pressure (reading stops while too much is unconsumed)

  // Bytes received and not yet consumed. The view is valid until consume() or the end of the turn
  // (it may move when more arrives).
  virtual std::string_view body() const = 0;
  virtual void consume(std::size_t bytes) = 0;
  // Everything has been received (body() may still hold the last part). True without a body.
  virtual bool body_complete() const = 0;
  // The application wants the body: sends `100 Continue` where the client waits for it (RFC 9110
  // 10.1.1). Without this call before the response starts, no 100 is sent.
  virtual void want_body() = 0;

  // ---- response

  enum class SendResult {
    sent,         // taken; go on
    full,         // taken, but wait for on_drain() before the next
    closed,       // the client is gone; dropped
    too_long,     // more than Content-Length: dropped, the connection will be closed
    too_short,    // finished with less than Content-Length: the connection is closed
    bad_head,     // status out of 100..999, or a field name or value that HTTP forbids
    wrong_order,  // head sent twice, body before head, or anything after the end
  };
  // The head is kept until the first send_body(), so that head and body go out in one writev.
  // Framing is the server's: Content-Length is kept (checked), Transfer-Encoding and Connection of
  // the application are dropped (`Connection: close` is honoured). A body without Content-Length is
  // chunked for HTTP/1.1 and ends with the connection for 1.0. Server and Date are added unless the
  // application sets them. HEAD, 1xx, 204 and 304 never get a body.
  // `reason` takes the place of the standard phrase; its characters are those of a field value.
  virtual SendResult send_head(int status, std::span<const HeaderField> headers,
                               std::string_view reason = {}) = 0;
  // `more` false completes the response. Empty data with `more` sends the head at once.
  virtual SendResult send_body(std::string_view data, bool more) = 0;
  // As send_body() with `count` bytes of `file` from `offset`, without a copy through this process
  // where the file allows it (sendfile(2)); the file's own position is neither used nor moved.
  // `sent`: all of it is on its way. `full`: on_drain() comes when it is, and then, where `more` is
  // false, the response is complete; until then every send is wrong_order.
  // too_long, too_short: it does not fit the Content-Length, and nothing of it is sent; a response
  // that has begun ends with the connection, else respond() is still possible.
  // A file that ends early or can't be read ends the connection: too_short, or on_disconnect().
  virtual SendResult send_file(UniqueFd file, std::uint64_t offset, std::uint64_t count,
                               bool more) = 0;
  // An informational response (RFC 9110 15.2; `status` in 102..199) ahead of the response. Dropped
  // once something of the response is on its way, and for a client of HTTP/1.0.
  virtual SendResult send_interim(int status, std::span<const HeaderField> headers) = 0;
  // Completes a response whose last part went out with `more`, with trailer fields (RFC 9110 6.5);
  // `more`: further ones follow. They go out where the body is chunked and the client says
  // `TE: trailers`, else they are dropped; fields that frame a message always are.
  virtual SendResult send_trailers(std::span<const HeaderField> fields, bool more) = 0;
  virtual bool head_sent() const = 0;     // send_head() was called
  virtual bool head_flushed() const = 0;  // something of it is on its way: too late for a 500
  virtual bool response_complete() const = 0;
  virtual bool disconnected() const = 0;
  virtual bool input_ended() const = 0;  // see ExchangeObserver::on_input_end()
  // A whole small response: replaces a head that is not flushed yet, else aborts.
  virtual void respond(int status, std::string_view content_type, std::string_view body) = 0;
  // Ends the connection without completing the response (the client must notice).
  virtual void abort() = 0;
  // What request_timeout means: 504 (RFC 9110 15.6.5) where nothing is on its way yet, else
  // abort(); logged and counted. Nothing once the response is complete or the client gone.
  virtual void time_out() = 0;

  // uid of the peer of a Unix socket (SO_PEERCRED), else -1; gid likewise.
  virtual std::int64_t peer_uid() const = 0;
  virtual std::int64_t peer_gid() const = 0;
  virtual pid_t peer_pid() const = 0;
  // The connection that the response goes to, borrowed; -1: it is gone, or the response complete.
  virtual int connection_fd() const = 0;

  virtual void release() = 0;

 protected:
  ~Exchange() = default;
};

inline void ExchangeObserver::on_timeout(Exchange& exchange) noexcept {
  exchange.time_out();
}

// Takes exchanges: a host of applications, or the supervisor's own API.
class Application {
 public:
  // The head is complete; the body may follow. Inside the loop's turn: see ExchangeObserver.
  virtual void on_request(Exchange& exchange) noexcept = 0;

 protected:
  ~Application() = default;
};

}  // namespace mgr::server
