// Channels, pipes and counters of molds and workers, for the program that takes this one's place.

#include <utility>

#include "manager/supervisor/process_world.h"
#include "manager/supervisor/saved_state.h"

namespace mgr::manager {
namespace {

using nlohmann::json;

json save(const Counters& counters) {
  return {{"connections", counters.connections},
          {"bytes_in", counters.bytes_in},
          {"bytes_out", counters.bytes_out},
          {"busy_ns", counters.busy_ns},
          {"duration_sum_ns", counters.duration_sum_ns},
          {"timeouts", counters.timeouts},
          {"requests", counters.requests},
          {"durations", counters.durations}};
}

Counters counters_from(const json& saved) {
  Counters counters;
  counters.connections = saved.at("connections").get<std::uint64_t>();
  counters.bytes_in = saved.at("bytes_in").get<std::uint64_t>();
  counters.bytes_out = saved.at("bytes_out").get<std::uint64_t>();
  counters.busy_ns = saved.at("busy_ns").get<std::uint64_t>();
  counters.duration_sum_ns = saved.at("duration_sum_ns").get<std::uint64_t>();
  counters.timeouts = saved.at("timeouts").get<std::uint64_t>();
  counters.requests = saved.at("requests").get<decltype(counters.requests)>();
  counters.durations = saved.at("durations").get<decltype(counters.durations)>();
  return counters;
}

// By the number of their mold or worker.
template <typename Id>
json save(const std::map<Id, UniqueFd>& descriptors, StateWriter& writer) {
  json saved = json::array();
  for (const auto& [id, fd] : descriptors) {
    saved.push_back({{"id", id}, {"fd", writer.keep(fd.get())}});
  }
  return saved;
}

template <typename Id>
std::map<Id, UniqueFd> descriptors_from(const json& saved, const StateReader& reader) {
  std::map<Id, UniqueFd> descriptors;
  for (const auto& one : saved) {
    descriptors.emplace(one.at("id").get<Id>(), reader.take(one.at("fd")));
  }
  return descriptors;
}

template <typename Id>
json save(const std::map<Id, std::unique_ptr<Peer>>& peers, StateWriter& writer) {
  json saved = json::array();
  for (const auto& [id, peer] : peers) {
    json entry = peer->save(writer);
    entry["id"] = id;
    saved.push_back(std::move(entry));
  }
  return saved;
}

}  // namespace

json Peer::save(StateWriter& writer) const {
  json waiting = json::array();
  for (const auto& record : waiting_) {
    json descriptors = json::array();
    for (const auto& fd : record.descriptors) descriptors.push_back(writer.keep(fd.get()));
    waiting.push_back({{"text", record.text}, {"descriptors", std::move(descriptors)}});
  }
  return {{"channel", writer.keep(channel_.fd())}, {"waiting", std::move(waiting)}};
}

void Peer::restore(const json& saved, const StateReader& reader) {
  for (const auto& one : saved.at("waiting")) {
    Waiting record{one.at("text").get<std::string>(), {}};
    for (const auto& fd : one.at("descriptors")) record.descriptors.push_back(reader.take(fd));
    waiting_.push_back(std::move(record));
  }
  watch();
}

json Totals::save() const {
  json live = json::array();
  for (const auto& [record, seen] : live_) {
    live.push_back({{"record", record}, {"seen", manager::save(seen)}});
  }
  return {{"gone", manager::save(gone_)}, {"live", std::move(live)}};
}

void Totals::restore(const json& saved) {
  gone_ = counters_from(saved.at("gone"));
  for (const auto& one : saved.at("live")) {
    live_.emplace(one.at("record").get<int>(), counters_from(one.at("seen")));
  }
}

json ProcessWorld::save(StateWriter& writer) const {
  return {{"stopped", to_saved(clock_.stopped())},
          {"molds", manager::save(molds_, writer)},
          {"workers", manager::save(workers_, writer)},
          {"mold_words", manager::save(mold_words_, writer)},
          {"worker_words", manager::save(worker_words_, writer)},
          {"free_records", free_records_},
          {"stacks", stacks_.save(writer)},
          {"totals", totals_.save()}};
}

Result<void> ProcessWorld::restore(const json& saved, const StateReader& reader) {
  CHECK(molds_.empty() && workers_.empty());
  return reading("world", [&] {
    clock_ = ActiveClock(time_from_saved(saved.at("stopped")));
    free_records_ = saved.at("free_records").get<std::vector<int>>();
    for (const int record : free_records_) {
      if (record < 0 || record >= ipc::kScoreboardRecords) throw Unreadable{"no such record"};
    }
    for (const auto& one : saved.at("molds")) {
      const auto id = one.at("id").get<MoldId>();
      molds_[id] = peer_of_mold(id, ipc::Channel(reader.take(one.at("channel"))));
      molds_[id]->restore(one, reader);
    }
    for (const auto& one : saved.at("workers")) {
      const auto id = one.at("id").get<WorkerId>();
      workers_[id] = peer_of_worker(id, ipc::Channel(reader.take(one.at("channel"))));
      workers_[id]->restore(one, reader);
    }
    mold_words_ = descriptors_from<MoldId>(saved.at("mold_words"), reader);
    worker_words_ = descriptors_from<WorkerId>(saved.at("worker_words"), reader);
    stacks_.restore(saved.at("stacks"), reader);
    totals_.restore(saved.at("totals"));
  });
}

}  // namespace mgr::manager
