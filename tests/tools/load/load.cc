#include "tests/tools/load/load.h"

#include <fmt/core.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "common/base/check.h"

namespace mgr::load {
namespace {

constexpr std::size_t kMostConnections = 16000;
constexpr auto kExpiryPeriod = std::chrono::milliseconds(20);
// How long a server may take to end a connection after it said so.
constexpr auto kCloseGrace = std::chrono::seconds(5);

}  // namespace

Load::Load(const Options& options)
    : options_(options), report_(options.details), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  CHECK(epoll_);
  if (options.mode == Mode::keep) pool_.resize(static_cast<std::size_t>(options.connections));
  const std::size_t mark = options.path.find("{id}");
  before_id_ = (options.body_size ? "POST " : "GET ") + options.path.substr(0, mark);
  has_id_ = mark != std::string::npos;
  if (has_id_) after_id_ = options.path.substr(mark + 4);
  after_id_ += " HTTP/1.1\r\nHost: " + options.target.host + "\r\n";
  for (const std::string& field : options.headers) after_id_ += field + "\r\n";
  if (options.body_size) after_id_ += fmt::format("Content-Length: {}\r\n", *options.body_size);
  if (options.mode == Mode::fresh) after_id_ += "Connection: close\r\n";
  after_id_ += "\r\n";
  if (options.body_size) after_id_ += std::string(*options.body_size, 'x');
}

void Load::run(const volatile int* stop) {
  begun_ = next_expiry_ = Clock::now();
  report_.begin(begun_);
  while (true) {
    const Clock::time_point now = Clock::now();
    const bool over = *stop != 0 || sending_over(now);
    if (!over) make_due(now);
    dispatch();
    ended_.clear();
    if (over && waiting_.empty() && in_hand_ == 0) break;
    if (now >= next_expiry_) expire(now);
    wait(now);
  }
}

bool Load::sending_over(Clock::time_point now) const {
  if (options_.count > 0 && made_ >= options_.count) return true;
  return options_.seconds > 0 && now - begun_ >= std::chrono::duration<double>(options_.seconds);
}

void Load::make_due(Clock::time_point now) {
  const auto add = [&](Clock::time_point due) {
    ++report_.due;
    waiting_.push_back({.number = made_++, .due = due});
  };
  const auto more = [&] { return options_.count == 0 || made_ < options_.count; };
  if (options_.rate > 0) {
    const std::chrono::duration<double> period(1 / options_.rate);
    while (more()) {
      const auto offset =
          std::chrono::duration_cast<Clock::duration>(period * static_cast<double>(made_));
      if (begun_ + offset > now) break;
      add(begun_ + offset);
    }
  } else {
    const auto depth = options_.mode == Mode::keep ? options_.depth : 1;
    const auto most =
        static_cast<std::size_t>(options_.connections) * static_cast<std::size_t>(depth);
    while (more() && in_hand_ + waiting_.size() < most) add(now);
  }
}

void Load::dispatch() {
  while (!waiting_.empty()) {
    const Outstanding request = waiting_.front();
    waiting_.pop_front();
    const bool taken =
        options_.mode == Mode::keep ? dispatch_kept(request) : dispatch_fresh(request);
    if (!taken) {
      waiting_.push_front(request);
      return;
    }
  }
}

bool Load::dispatch_fresh(const Outstanding& request) {
  if (connections_.size() >= kMostConnections) return false;
  if (Connection* connection = open_connection(request, -1)) {
    ++in_hand_;
    connection->send(request, render(request));
  }
  return true;
}

bool Load::dispatch_kept(const Outstanding& request) {
  bool lost = false;
  Connection* connection = find_kept(request, lost);
  if (connection == nullptr) return lost;
  ++in_hand_;
  connection->send(request, render(request));
  return true;
}

Connection* Load::find_kept(const Outstanding& request, bool& lost) {
  const auto depth = static_cast<std::size_t>(options_.depth);
  for (std::size_t tried = 0; tried < pool_.size(); ++tried) {
    const std::size_t slot = next_slot_;
    next_slot_ = (next_slot_ + 1) % pool_.size();
    Connection* connection = pool_[slot];
    if (connection != nullptr && connection->outstanding() >= depth) continue;
    if (connection != nullptr && connection->state() == Connection::State::closing) continue;
    const bool idle = connection != nullptr && connection->state() == Connection::State::open &&
                      connection->outstanding() == 0;
    if (connection != nullptr && (!idle || connection->still_open())) return connection;
    connection = open_connection(request, static_cast<int>(slot));
    lost = connection == nullptr;
    return connection;
  }
  return nullptr;
}

Connection* Load::open_connection(const Outstanding& request, int slot) {
  ConnectionOwner& owner = *this;
  auto owned = std::make_unique<Connection>(owner, epoll_.get());
  const int error = owned->open(options_.target);
  if (error != 0) {
    const bool own_limit = error == EMFILE || error == ENFILE || error == EADDRNOTAVAIL;
    const Loss kind = error == ECONNREFUSED ? Loss::refused
                      : own_limit           ? Loss::never_sent
                                            : Loss::connect_error;
    ++in_hand_;
    on_loss(request, kind, 0, std::strerror(error), *owned);
    return nullptr;
  }
  Connection* connection = owned.get();
  connection->slot = slot;
  if (slot >= 0) pool_[static_cast<std::size_t>(slot)] = connection;
  connections_.emplace(connection, std::move(owned));
  ++report_.connections;
  return connection;
}

void Load::expire(Clock::time_point now) {
  next_expiry_ = now + kExpiryPeriod;
  std::vector<Connection*> all;
  for (const auto& [connection, owned] : connections_) all.push_back(connection);
  for (Connection* connection : all) {
    if (connection->state() == Connection::State::closing) {
      if (now - connection->closing_since() < kCloseGrace) continue;
      ++report_.left_open;
      connection->close();
    } else {
      connection->expire(now, options_.timeout);
    }
  }
  while (!waiting_.empty() && now - waiting_.front().due >= options_.timeout) {
    const Outstanding request = waiting_.front();
    waiting_.pop_front();
    ++in_hand_;
    on_loss(request, Loss::never_sent, 0, "no connection took it in time", Connection(*this, -1));
  }
}

void Load::wait(Clock::time_point now) {
  Clock::time_point until = next_expiry_;
  if (options_.rate > 0 && !sending_over(now)) {
    const std::chrono::duration<double> offset(static_cast<double>(made_) / options_.rate);
    until = std::min(until, begun_ + std::chrono::duration_cast<Clock::duration>(offset));
  }
  const auto left = std::max(until - now, Clock::duration::zero());
  const timespec timeout{
      .tv_sec = 0, .tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count()};
  std::array<epoll_event, 512> events;
  const int count = epoll_pwait2(epoll_.get(), events.data(), events.size(), &timeout, nullptr);
  for (int i = 0; i < count; ++i) {
    static_cast<Connection*>(events[static_cast<std::size_t>(i)].data.ptr)
        ->on_event(events[static_cast<std::size_t>(i)].events);
  }
}

void Load::on_response(const Outstanding& request, const ResponseParser& response,
                       const Connection& connection) {
  const std::string_view body = response.body();
  const std::string shown = fmt::format("{} {:.80}", response.status(), body);
  if (response.status() != 200) {
    on_loss(request, Loss::wrong_status, response.bytes_seen(), shown, connection);
  } else if (!body.starts_with(options_.expect_body_prefix) ||
             (options_.verify_id && body.find(id_of(request)) == std::string_view::npos)) {
    on_loss(request, Loss::wrong_body, response.bytes_seen(), shown, connection);
  } else {
    --in_hand_;
    report_.add_ok(Clock::now() - request.due);
    if (!announced_) std::fputs("load_client: first response\n", stderr);
    announced_ = true;
  }
}

void Load::on_loss(const Outstanding& request, Loss kind, std::uint64_t bytes_seen,
                   const std::string& error, const Connection& connection) {
  --in_hand_;
  report_.add_loss({.id = id_of(request),
                    .kind = kind,
                    .when = Clock::now(),
                    .wall = std::chrono::system_clock::now(),
                    .bytes_seen = bytes_seen,
                    .local_port = connection.local_port(),
                    .earlier_responses = connection.responses(),
                    .error = error});
}

void Load::on_resend(const Outstanding& request) {
  --in_hand_;
  ++report_.resent;
  const auto place = std::upper_bound(
      waiting_.begin(), waiting_.end(), request,
      [](const Outstanding& left, const Outstanding& right) { return left.number < right.number; });
  waiting_.insert(place, request);
}

void Load::on_stray_bytes(const Connection& connection) {
  ++in_hand_;
  on_loss({.number = made_, .due = Clock::now()}, Loss::stray_bytes, 0, "bytes nobody asked for",
          connection);
}

void Load::on_closed(Connection& connection, End end) {
  if (end == End::idle) ++report_.idle_closed;
  if (end == End::by_response) ++report_.closed_by_response;
  if (connection.slot >= 0) pool_[static_cast<std::size_t>(connection.slot)] = nullptr;
  const auto found = connections_.find(&connection);
  CHECK(found != connections_.end());
  ended_.push_back(std::move(found->second));
  connections_.erase(found);
}

std::string Load::render(const Outstanding& request) const {
  return before_id_ + (has_id_ ? id_of(request) : "") + after_id_;
}

std::string Load::id_of(const Outstanding& request) const {
  return fmt::format("r{:09}", request.number);
}

}  // namespace mgr::load
