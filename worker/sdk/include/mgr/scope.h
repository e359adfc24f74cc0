#pragma once

#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <mgr/abi.h>

namespace mgr::app {

enum class ScopeType { http, lifespan };

// A field of a head. In requests the name is lower-case; in responses any case will do.
struct Header {
  std::string_view name;
  std::string_view value;
};

// `port` -1: a Unix socket, and `host` is its path.
struct Endpoint {
  std::string_view host;
  int port = 0;
};

// The fields of a request, in their order; a name may come more than once.
class HeaderRange {
 public:
  class Iterator {
   public:
    using value_type = Header;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    using pointer = void;
    using reference = Header;

    explicit Iterator(const mgr_field* field = nullptr) : field_(field) {}
    Header operator*() const {
      return {{field_->name.data, field_->name.size}, {field_->value.data, field_->value.size}};
    }
    Iterator& operator++() {
      ++field_;
      return *this;
    }
    Iterator operator++(int) { return Iterator(field_++); }
    bool operator==(const Iterator&) const = default;

   private:
    const mgr_field* field_;
  };

  HeaderRange(const mgr_field* fields, std::size_t count) : fields_(fields), count_(count) {}
  Iterator begin() const { return Iterator(fields_); }
  Iterator end() const { return Iterator(fields_ + count_); }
  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }

 private:
  const mgr_field* fields_;
  std::size_t count_;
};

namespace detail {

// The object that the lifespan has made for all requests of this worker.
class State {
 public:
  template <typename T, typename... Arguments>
  T& make(Arguments&&... arguments) {
    auto made = std::make_shared<T>(std::forward<Arguments>(arguments)...);
    T& object = *made;
    object_ = std::move(made);
    type_ = &kType<T>;
    return object;
  }
  template <typename T>
  T& get() const {
    if (type_ != &kType<T>) {
      throw std::logic_error(type_ ? "the state that the lifespan has made is of another type"
                                   : "the lifespan has made no state");
    }
    return *static_cast<T*>(object_.get());
  }

 private:
  template <typename T>
  static constexpr char kType = 0;

  std::shared_ptr<void> object_;
  const char* type_ = nullptr;
};

}  // namespace detail

// What a call of the application is about: ASGI's scope (asgiref, HTTP connection scope). All views
// are the server's and stay valid until the application returns. In a lifespan all but type(),
// make_state() and state() are empty.
class Scope {
 public:
  Scope(const mgr_host_table& host, mgr_call& call, detail::State& state)
      : host_(host), call_(call), state_(state) {}
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  ScopeType type() const {
    return call_.scope.type == MGR_SCOPE_LIFESPAN ? ScopeType::lifespan : ScopeType::http;
  }
  std::string_view http_version() const { return view(call_.scope.http_version); }  // 1.0 or 1.1
  std::string_view method() const { return view(call_.scope.method); }
  std::string_view scheme() const { return view(call_.scope.scheme); }  // http or https
  // Percent-decoded, any bytes; begins with root_path().
  std::string_view path() const { return view(call_.scope.path); }
  std::string_view raw_path() const { return view(call_.scope.raw_path); }          // as received
  std::string_view query_string() const { return view(call_.scope.query_string); }  // without '?'
  std::string_view root_path() const { return view(call_.scope.root_path); }

  HeaderRange headers() const {
    std::size_t count = 0;
    const mgr_field* fields = host_.headers(&call_, &count);
    return {fields, count};
  }
  // The first field of that name, which is given in lower case.
  std::optional<std::string_view> header(std::string_view name) const {
    for (const Header field : headers()) {
      if (field.name == name) return field.value;
    }
    return std::nullopt;
  }

  // The peer, as trusted proxies tell it; none where it is a Unix socket's.
  std::optional<Endpoint> client() const { return endpoint(call_.scope.client); }
  // The address that the request came to.
  std::optional<Endpoint> server() const { return endpoint(call_.scope.server); }

  // In the lifespan, before StartupComplete: makes the object that every request of this worker
  // sees. It lives until the application has shut down. Each worker has one of its own.
  template <typename T, typename... Arguments>
  T& make_state(Arguments&&... arguments) const {
    return state_.make<T>(std::forward<Arguments>(arguments)...);
  }
  // Throws std::logic_error where the lifespan has made none, or one of another type.
  template <typename T>
  T& state() const {
    return state_.get<T>();
  }

 private:
  static std::string_view view(mgr_text text) { return {text.data, text.size}; }
  static std::optional<Endpoint> endpoint(const mgr_endpoint& from) {
    if (!from.host.data) return std::nullopt;
    return Endpoint{view(from.host), from.port};
  }

  const mgr_host_table& host_;
  mgr_call& call_;
  detail::State& state_;
};

}  // namespace mgr::app
