// The book of molds, workers and slots, for the program that takes this one's place.

#include "manager/supervisor/lifecycle.h"
#include "manager/supervisor/saved_state.h"

namespace mgr::manager {
namespace {

using nlohmann::json;

constexpr int kWorkerStates = static_cast<int>(WorkerState::gone) + 1;

template <typename T>
json list(const T& values) {
  return json(std::vector(values.begin(), values.end()));
}

// A new member does not compile here: save() and restore() below must know it, or an upgrade loses
// it.
[[maybe_unused]] void know_every_member(const Generation& generation, const Mold& mold,
                                        const Worker& worker, const Slot& slot) {
  [[maybe_unused]] const auto& [g1, g2, g3, g4, g5, g6, g7, g8, g9] = generation;
  [[maybe_unused]] const auto& [m1, m2, m3, m4, m5, m6, m7, m8] = mold;
  [[maybe_unused]] const auto& [w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15,
                                w16, w17, w18, w19, w20, w21, w22, w23, w24] = worker;
  [[maybe_unused]] const auto& [s1, s2, s3, s4, s5, s6, s7, s8, s9, s10] = slot;
}

json save(const Failure& failure) {
  return {{"stage", failure.stage},
          {"error", failure.error},
          {"detail", failure.detail},
          {"exit_status", failure.exit_status}};
}

Failure failure_from(const json& saved) {
  return {saved.at("stage").get<std::string>(), saved.at("error").get<std::string>(),
          saved.at("detail").get<std::string>(), saved.at("exit_status").get<int>()};
}

RestartReason reason_from(const json& saved) {
  return named<RestartReason>(saved.get<std::string>(), static_cast<int>(kRestartReasons));
}

json save(const Backoff& backoff) {
  return {{"early_deaths", backoff.early_deaths()}, {"quick_kills", backoff.quick_kills()}};
}

Backoff backoff_from(const json& saved) {
  return Backoff::after(saved.at("early_deaths").get<int>(), saved.at("quick_kills").get<int>());
}

json save(const Generation& generation) {
  return {{"key", generation.key},
          {"number", generation.number},
          {"settings", generation.settings->to_json()},
          {"mold", generation.mold},
          {"load", generation.load},
          {"interface", generation.interface},
          {"retry_mold_at", to_saved(generation.retry_mold_at)},
          {"mold_backoff", save(generation.mold_backoff)},
          {"fit", generation.fit}};
}

Generation generation_from(const json& saved) {
  Generation generation;
  generation.key = saved.at("key").get<int>();
  generation.number = saved.at("number").get<int>();
  auto settings = Settings::from_json(saved.at("settings"));
  if (!settings) throw Unreadable{"settings: " + settings.error().message()};
  generation.settings = std::make_shared<const Settings>(std::move(*settings));
  generation.mold = saved.at("mold").get<MoldId>();
  generation.load = saved.at("load").get<bool>();
  generation.interface = saved.at("interface").get<std::string>();
  generation.retry_mold_at = time_from_saved(saved.at("retry_mold_at"));
  generation.mold_backoff = backoff_from(saved.at("mold_backoff"));
  generation.fit = saved.at("fit").get<int>();
  return generation;
}

json save(const Mold& mold) {
  return {{"id", mold.id},
          {"generation", mold.generation},
          {"pid", mold.pid},
          {"state", to_string(mold.state)},
          {"interpreter", mold.interpreter},
          {"deadline", to_saved(mold.deadline, [](Millis time) { return to_saved(time); })},
          {"failure", to_saved(mold.failure, [](const Failure& one) { return save(one); })},
          {"oom_kills_before", mold.oom_kills_before}};
}

Mold mold_from(const json& saved) {
  Mold mold;
  mold.id = saved.at("id").get<MoldId>();
  mold.generation = saved.at("generation").get<int>();
  mold.pid = saved.at("pid").get<pid_t>();
  mold.state = named<Mold::State>(saved.at("state").get<std::string>(), 3);
  mold.interpreter = saved.at("interpreter").get<std::string>();
  mold.deadline = optional_from_saved(saved.at("deadline"), time_from_saved);
  mold.failure = optional_from_saved(saved.at("failure"), failure_from);
  mold.oom_kills_before = saved.at("oom_kills_before").get<std::int64_t>();
  return mold;
}

json save(const RecycleDue& due) {
  return {{"reason", to_string(due.reason)}, {"why", due.why}};
}

RecycleDue recycle_from(const json& saved) {
  return {reason_from(saved.at("reason")), saved.at("why").get<std::string>()};
}

// How long its loop has been blocked is counted anew.
json save(const Worker& worker) {
  const auto reason = [](RestartReason one) { return json(to_string(one)); };
  return {{"id", worker.id},
          {"slot", worker.slot},
          {"generation", worker.generation},
          {"number", worker.number},
          {"mold", worker.mold},
          {"epoch", worker.epoch},
          {"record", worker.record},
          {"pid", worker.pid},
          {"state", to_string(worker.state)},
          {"started", to_saved(worker.started)},
          {"ready_at", to_saved(worker.ready_at)},
          {"deadline", to_saved(worker.deadline, [](Millis time) { return to_saved(time); })},
          {"sockets", list(worker.sockets)},
          {"stopped_accepting", worker.stopped_accepting},
          {"failure", to_saved(worker.failure, [](const Failure& one) { return save(one); })},
          {"oom_kills_before", worker.oom_kills_before},
          {"replaced_by", to_saved(worker.replaced_by, reason)},
          {"killed_for", to_saved(worker.killed_for, reason)},
          {"stopped", worker.stopped},
          {"limits",
           {{"requests", worker.limits.requests},
            {"lifetime", to_saved(worker.limits.lifetime)},
            {"memory", worker.limits.memory}}},
          {"recycle", to_saved(worker.recycle, [](const RecycleDue& due) { return save(due); })}};
}

Worker worker_from(const json& saved) {
  Worker worker;
  worker.id = saved.at("id").get<WorkerId>();
  worker.slot = saved.at("slot").get<int>();
  worker.generation = saved.at("generation").get<int>();
  worker.number = saved.at("number").get<int>();
  worker.mold = saved.at("mold").get<MoldId>();
  worker.epoch = saved.at("epoch").get<std::uint64_t>();
  worker.record = saved.at("record").get<int>();
  worker.pid = saved.at("pid").get<pid_t>();
  worker.state = named<WorkerState>(saved.at("state").get<std::string>(), kWorkerStates);
  worker.started = time_from_saved(saved.at("started"));
  worker.ready_at = time_from_saved(saved.at("ready_at"));
  worker.deadline = optional_from_saved(saved.at("deadline"), time_from_saved);
  worker.sockets = saved.at("sockets").get<std::set<SocketId>>();
  worker.stopped_accepting = saved.at("stopped_accepting").get<bool>();
  worker.failure = optional_from_saved(saved.at("failure"), failure_from);
  worker.oom_kills_before = saved.at("oom_kills_before").get<std::int64_t>();
  worker.replaced_by = optional_from_saved(saved.at("replaced_by"), reason_from);
  worker.killed_for = optional_from_saved(saved.at("killed_for"), reason_from);
  worker.stopped = saved.at("stopped").get<bool>();
  const json& limits = saved.at("limits");
  worker.limits = {limits.at("requests").get<std::uint64_t>(),
                   time_from_saved(limits.at("lifetime")),
                   limits.at("memory").get<std::uint64_t>()};
  worker.recycle = optional_from_saved(saved.at("recycle"), recycle_from);
  return worker;
}

json save(const Slot& slot) {
  return {{"index", slot.index},
          {"current", slot.current},
          {"successor", slot.successor},
          {"held", slot.held},
          {"wanted_epoch", slot.wanted_epoch},
          {"wanted_generation", slot.wanted_generation},
          {"backoff", save(slot.backoff)},
          {"retry_at", to_saved(slot.retry_at)},
          {"restarts", slot.restarts},
          {"last_exit", slot.last_exit}};
}

Slot slot_from(const json& saved) {
  Slot slot;
  slot.index = saved.at("index").get<int>();
  slot.current = saved.at("current").get<WorkerId>();
  slot.successor = saved.at("successor").get<WorkerId>();
  slot.held = saved.at("held").get<WorkerId>();
  slot.wanted_epoch = saved.at("wanted_epoch").get<std::uint64_t>();
  slot.wanted_generation = saved.at("wanted_generation").get<int>();
  slot.backoff = backoff_from(saved.at("backoff"));
  slot.retry_at = time_from_saved(saved.at("retry_at"));
  slot.restarts = saved.at("restarts").get<int>();
  slot.last_exit = saved.at("last_exit").get<std::string>();
  return slot;
}

json save(const RestartCounts& counts) {
  json saved = json::object();
  for (std::size_t i = 0; i < counts.size(); ++i) {
    saved[std::string(to_string(static_cast<RestartReason>(i)))] = counts[i];
  }
  return saved;
}

RestartCounts counts_from(const json& saved) {
  RestartCounts counts{};
  for (const auto& [name, count] : saved.items()) {
    counts[static_cast<std::size_t>(reason_from(json(name)))] = count.get<std::uint64_t>();
  }
  return counts;
}

// What the book says of itself must be true, or this is another program's.
void check(bool fits, std::string_view what) {
  if (!fits) throw Unreadable{std::string(what)};
}

}  // namespace

json Lifecycle::save() const {
  const auto all = [](const auto& entries) {
    json saved = json::array();
    for (const auto& [key, entry] : entries) saved.push_back(manager::save(entry));
    return saved;
  };
  json slots = json::array();
  for (const auto& slot : slots_) slots.push_back(manager::save(slot));
  json saved{{"target", target_},
             {"scaled", scaled_},
             {"drained", traffic_ == Traffic::drained},
             {"dismissed", dismissed_},
             {"oom_kills_told", oom_kills_told_},
             {"generation", generation_},
             {"next_key", next_key_},
             {"next_id", next_id_},
             {"next_epoch", next_epoch_},
             {"next_look", to_saved(next_look_)},
             {"generations", all(generations_)},
             {"molds", all(molds_)},
             {"workers", all(workers_)},
             {"slots", std::move(slots)},
             {"active_slots", active_slots_},
             {"reloads", reloads_},
             {"reloads_rolled_back", reloads_rolled_back_},
             {"reloads_refused", reloads_refused_},
             {"restarts", manager::save(restarts_)}};
  saved["last_reload"] = nullptr;
  if (last_reload_) {
    saved["last_reload"] = {
        {"ok", last_reload_->ok},
        {"failure", to_saved(last_reload_->failure,
                             [](const Failure& failure) { return manager::save(failure); })},
        {"duration", to_saved(last_reload_->duration)}};
  }
  return saved;
}

Result<void> Lifecycle::restore(const json& saved) {
  CHECK(slots_.empty() && workers_.empty());
  return reading("lifecycle", [&] {
    target_ = saved.at("target").get<int>();
    scaled_ = saved.at("scaled").get<bool>();
    traffic_ = saved.at("drained").get<bool>() ? Traffic::drained : Traffic::open;
    dismissed_ = saved.at("dismissed").get<int>();
    oom_kills_told_ = saved.at("oom_kills_told").get<std::int64_t>();
    generation_ = saved.at("generation").get<int>();
    next_key_ = saved.at("next_key").get<int>();
    next_id_ = saved.at("next_id").get<std::uint64_t>();
    next_epoch_ = saved.at("next_epoch").get<std::uint64_t>();
    next_look_ = time_from_saved(saved.at("next_look"));
    for (const auto& one : saved.at("generations")) {
      Generation generation = generation_from(one);
      generations_.emplace(generation.key, std::move(generation));
    }
    for (const auto& one : saved.at("molds")) {
      Mold mold = mold_from(one);
      molds_.emplace(mold.id, std::move(mold));
    }
    for (const auto& one : saved.at("workers")) {
      Worker worker = worker_from(one);
      workers_.emplace(worker.id, std::move(worker));
    }
    for (const auto& one : saved.at("slots")) {
      slots_.push_back(slot_from(one));
      check(slots_.back().index == static_cast<int>(slots_.size()) - 1, "a slot is missing");
    }
    check(target_ >= (dismissed_ > 0 ? 0 : 1) && static_cast<std::size_t>(target_) <= slots_.size(),
          "fewer slots than wanted workers");
    check(generations_.contains(generation_), "its generation is missing");
    active_slots_ = saved.at("active_slots").get<std::vector<int>>();
    reloads_ = saved.at("reloads").get<int>();
    reloads_rolled_back_ = saved.at("reloads_rolled_back").get<int>();
    reloads_refused_ = saved.at("reloads_refused").get<int>();
    restarts_ = counts_from(saved.at("restarts"));
    last_reload_ = optional_from_saved(saved.at("last_reload"), [](const json& last) {
      return LastReload{last.at("ok").get<bool>(),
                        optional_from_saved(last.at("failure"), failure_from),
                        time_from_saved(last.at("duration"))};
    });
    phase_ = Phase::running;
    listening_ = true;
  });
}

}  // namespace mgr::manager
