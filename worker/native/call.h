#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "worker/sdk/include/mgr/abi.h"

namespace mgr::native {

inline std::string_view view_of(mgr_text text) {
  return {text.data, text.size};
}
inline mgr_text text_of(std::string_view view) {
  return {view.data(), view.size()};
}

// "std::runtime_error: what it says", on one line.
inline std::string describe_exception(std::string_view type, std::string_view what) {
  std::string text(type);
  if (!what.empty()) text.append(": ").append(what);
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return text;
}

// One call of the application, as it asks its host: a request or the lifespan. The meaning of each
// function is that of mgr_host_table's.
class Call : public mgr_call {
 public:
  virtual const mgr_field* headers(std::size_t& count) = 0;
  virtual bool receive(mgr_message& message) = 0;
  virtual int send_head(int status, const mgr_field* headers, std::size_t count) = 0;
  virtual int send_body(std::string_view body, bool more) = 0;
  virtual int send_lifespan(int message, std::string_view text) = 0;
  virtual int flow() const = 0;
  virtual void finished(int outcome, std::string_view type, std::string_view what) = 0;

  static Call& of(mgr_call* call) { return *static_cast<Call*>(call); }

 protected:
  explicit Call(std::uint32_t type) : mgr_call{} { scope.type = type; }
  ~Call() = default;
};

}  // namespace mgr::native
