#include "manager/supervisor/event_stream.h"

#include <fmt/core.h>
#include <sys/time.h>
#include <time.h>

#include <array>
#include <cstdint>
#include <utility>

namespace mgr::manager {
namespace {

using nlohmann::ordered_json;

// Local time with its offset: 2026-11-22T01:40:00.123+00:00.
std::string now_text() {
  timeval now{};
  ::gettimeofday(&now, nullptr);
  std::tm local{};
  ::localtime_r(&now.tv_sec, &local);
  char date[32];
  char zone[8];
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &local);
  std::strftime(zone, sizeof zone, "%z", &local);
  const std::string_view offset = zone;
  return fmt::format("{}.{:03}{}:{}", date, now.tv_usec / 1000, offset.substr(0, 3),
                     offset.substr(3));
}

}  // namespace

std::string wire_text(std::string_view time, std::string_view kind, const ordered_json& fields) {
  ordered_json data{{"time", time}, {"event", kind}};
  data.update(fields);
  return fmt::format("event: {}\ndata: {}\n\n", kind,
                     data.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
}

class EventStream::Listener final : public server::ExchangeObserver {
 public:
  explicit Listener(server::Exchange& exchange) : exchange_(exchange) {
    exchange_.set_observer(this);
    const std::array<server::HeaderField, 2> fields{
        {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-store"}}};
    exchange_.send_head(200, fields);
  }
  ~Listener() {
    exchange_.set_observer(nullptr);
    exchange_.release();
  }

  bool gone() const { return gone_; }

  void send(const std::string& text) {
    if (gone_) return;
    if (full_) {
      ++dropped_;
      return;
    }
    full_ = exchange_.send_body(text, true) == server::Exchange::SendResult::full;
  }
  void finish(const std::string& text) {
    if (gone_) return;
    exchange_.send_body(full_ ? "" : text, false);
    gone_ = true;
  }

  void on_body(server::Exchange&) noexcept override {}
  void on_drain(server::Exchange&) noexcept override {
    full_ = false;
    if (dropped_ == 0) return;
    send(wire_text(now_text(), "dropped", {{"count", std::exchange(dropped_, 0)}}));
  }
  void on_disconnect(server::Exchange&) noexcept override { gone_ = true; }

 private:
  server::Exchange& exchange_;
  bool gone_ = false;
  bool full_ = false;
  std::uint64_t dropped_ = 0;
};

EventStream::EventStream() = default;
EventStream::~EventStream() = default;

// Not from their own callbacks, which come from inside of the connection.
void EventStream::sweep() {
  std::erase_if(listeners_, [](const auto& listener) { return listener->gone(); });
}

bool EventStream::full() {
  sweep();
  return listeners_.size() >= kMostListeners;
}

void EventStream::add(server::Exchange& exchange, const ordered_json& state) {
  listeners_.push_back(std::make_unique<Listener>(exchange));
  listeners_.back()->send(wire_text(now_text(), "state", state));
}

void EventStream::end() {
  for (const auto& listener : listeners_) listener->finish("");
  sweep();
}

void EventStream::publish(const Event& event) {
  if (listeners_.empty()) return;
  const std::string text = wire_text(now_text(), to_string(event.kind), event.fields);
  for (const auto& listener : listeners_) {
    if (event.kind == EventKind::stopped) {
      listener->finish(text);
    } else {
      listener->send(text);
    }
  }
  sweep();
}

}  // namespace mgr::manager
