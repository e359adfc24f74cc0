#pragma once

#include <cstdint>

namespace mgr::python {

// How much of the time the threads of a pool compute, all together; times in ns of CLOCK_MONOTONIC.
// Where it is nearly all of it, what they wait for is the GIL, and one more of them adds nothing
// but the changes of hands, which cost a request of Django more than half of what it costs by
// itself.
class GilLoad {
 public:
  static constexpr std::uint64_t kWindow = 100'000'000;
  static constexpr std::uint64_t kReport = kWindow / 10;  // how often a thread tells, at most

  // What one thread has told.
  struct Report {
    std::uint64_t at_ns = 0;
    std::uint64_t computed_ns = 0;
  };
  bool is_due(const Report& last, std::uint64_t now_ns) const {
    return now_ns - last.at_ns >= kReport;
  }
  // `computed_ns`: of the thread since its beginning.
  void tell(Report& last, std::uint64_t now_ns, std::uint64_t computed_ns) {
    if (last.at_ns > 0) computed_ns_ += computed_ns - last.computed_ns;
    last = {now_ns, computed_ns};
  }
  // Three quarters in the last whole window.
  bool is_full(std::uint64_t now_ns) {
    const std::uint64_t passed = now_ns - began_ns_;
    if (passed >= kWindow) {
      full_ = began_ns_ > 0 && computed_ns_ >= passed / 4 * 3;
      computed_ns_ = 0;
      began_ns_ = now_ns;
    }
    return full_;
  }

 private:
  std::uint64_t began_ns_ = 0;
  std::uint64_t computed_ns_ = 0;
  bool full_ = false;
};

}  // namespace mgr::python
