#include "tests/tools/load/report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace mgr::load {
namespace {

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

nlohmann::ordered_json percentiles(std::vector<std::uint32_t> latencies_us) {
  nlohmann::ordered_json result;
  if (latencies_us.empty()) return result;
  std::sort(latencies_us.begin(), latencies_us.end());
  const auto at = [&](double fraction) {
    const auto index =
        static_cast<std::size_t>(fraction * static_cast<double>(latencies_us.size()));
    return latencies_us[std::min(index, latencies_us.size() - 1)] / 1000.0;
  };
  result["p50"] = at(0.5);
  result["p90"] = at(0.9);
  result["p99"] = at(0.99);
  result["p999"] = at(0.999);
  result["max"] = latencies_us.back() / 1000.0;
  return result;
}

}  // namespace

std::string_view name_of(Loss loss) {
  switch (loss) {
    case Loss::refused:
      return "refused";
    case Loss::connect_error:
      return "connect_error";
    case Loss::reset:
      return "reset";
    case Loss::eof_before_response:
      return "eof_before_response";
    case Loss::truncated:
      return "truncated";
    case Loss::raced:
      return "raced";
    case Loss::timed_out:
      return "timed_out";
    case Loss::wrong_status:
      return "wrong_status";
    case Loss::wrong_body:
      return "wrong_body";
    case Loss::bad_response:
      return "bad_response";
    case Loss::never_sent:
      return "never_sent";
    case Loss::stray_bytes:
      return "stray_bytes";
  }
  return "unknown";
}

void Report::add_ok(Clock::duration latency) {
  ++ok_;
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(latency).count();
  latencies_us_.push_back(static_cast<std::uint32_t>(std::max<std::int64_t>(us, 0)));
}

void Report::add_loss(LossDetail detail) {
  ++lost_[static_cast<std::size_t>(detail.kind)];
  if (details_.size() < most_details_) details_.push_back(std::move(detail));
}

std::uint64_t Report::lost() const {
  return std::accumulate(lost_.begin(), lost_.end(), std::uint64_t{0});
}

std::string Report::json(Clock::time_point now) const {
  const double duration = seconds(now - begun_);
  nlohmann::ordered_json result{{"due", due}, {"ok", ok_}, {"lost", lost()}};
  for (std::size_t kind = 0; kind < kLossKinds; ++kind) {
    result[std::string(name_of(static_cast<Loss>(kind)))] = lost_[kind];
  }
  result["resent"] = resent;
  result["connections"] = connections;
  result["idle_closed"] = idle_closed;
  result["closed_by_response"] = closed_by_response;
  result["left_open"] = left_open;
  result["seconds"] = std::round(duration * 1000) / 1000;
  result["ok_per_second"] = duration > 0 ? std::round(static_cast<double>(ok_) / duration) : 0;
  result["latency_ms"] = percentiles(latencies_us_);
  result["losses"] = nlohmann::ordered_json::array();
  for (const LossDetail& detail : details_) {
    const auto wall = std::chrono::duration<double>(detail.wall.time_since_epoch()).count();
    result["losses"].push_back({{"id", detail.id},
                                {"kind", name_of(detail.kind)},
                                {"at_s", seconds(detail.when - begun_)},
                                {"wall_s", wall},
                                {"bytes", detail.bytes_seen},
                                {"local_port", detail.local_port},
                                {"earlier_responses", detail.earlier_responses},
                                {"error", detail.error}});
  }
  return result.dump();
}

}  // namespace mgr::load
