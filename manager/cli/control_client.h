#pragma once

#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace mgr::cli {

struct ControlResponse {
  int status = 0;
  std::string content_type;
  std::string body;
};

// One connection to a supervisor's control socket: a blocking HTTP/1.1 client, for one request.
class ControlClient {
 public:
  // `address`: a path, or '@' and an abstract name. Errors name it; the code is connect()'s errno.
  static Result<ControlClient> connect(const std::string& address);

  const std::string& address() const { return address_; }
  // The supervisor, as the kernel knows it; pid 0 where it is not visible from here.
  const ucred& peer() const { return peer_; }

  // Waits for the whole response, `patience` for each part of it, or for ever. Errors: the
  // connection broke, no HTTP.
  Result<ControlResponse> get(std::string_view path, std::chrono::seconds patience);
  // The body goes to `sink` as it comes, for as long as it does, where the status is 200.
  using Sink = std::function<void(std::string_view data)>;
  Result<ControlResponse> stream(std::string_view path, Sink sink);
  Result<ControlResponse> post(std::string_view path, std::string_view json);
  Result<ControlResponse> put(std::string_view path, std::string_view json);

 private:
  ControlClient(UniqueFd fd, std::string address, ucred peer)
      : fd_(std::move(fd)), address_(std::move(address)), peer_(peer) {}
  Result<ControlResponse> change(std::string_view method, std::string_view path,
                                 std::string_view json);
  Result<ControlResponse> exchange(std::string_view request, Sink sink = {});
  Error failure(std::string_view what) const;

  UniqueFd fd_;
  std::string address_;
  ucred peer_;
};

}  // namespace mgr::cli
