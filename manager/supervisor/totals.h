#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>

#include "common/ipc/scoreboard.h"

namespace mgr::manager {

// What only grows in a worker's record, as plain numbers.
struct Counters {
  std::uint64_t connections = 0;  // accepted
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t busy_ns = 0;  // the present run of the loop included
  std::uint64_t duration_sum_ns = 0;
  std::uint64_t timeouts = 0;
  std::array<std::uint64_t, 6> requests{};  // by status class: [0] none, 1xx … 5xx
  std::array<std::uint64_t, ipc::kDurationBuckets> durations{};

  // What the record says; nothing where it has another layout.
  static Counters read(const ipc::WorkerRecord& record, std::uint64_t now_ns);
  void add(const Counters& other);
  // Takes what has grown. A number that fell, or that no counter reaches, stays as it was: the
  // application can write into its worker's record.
  void raise_to(const Counters& fresh);

  bool operator==(const Counters&) const = default;
};

// The counters of all workers that ever were, which never fall: a worker that is gone leaves its
// numbers here before its record is another's. The scoreboard must outlive it.
class Totals {
 public:
  explicit Totals(const ipc::Scoreboard& scoreboard) : scoreboard_(scoreboard) {}

  // A worker, whose record has been zeroed, begins to write into it.
  void open(int record);
  // It writes no more: its process has ended, or never came to be.
  void close(int record, std::uint64_t now_ns);
  Counters sum(std::uint64_t now_ns);

  nlohmann::json save() const;
  void restore(const nlohmann::json& saved);

 private:
  const ipc::Scoreboard& scoreboard_;
  Counters gone_;
  std::map<int, Counters> live_;  // as last seen, by record
};

}  // namespace mgr::manager
