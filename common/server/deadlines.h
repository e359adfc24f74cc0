#pragma once

#include <array>
#include <chrono>

#include "common/loop/event_loop.h"

namespace mgr::server {

// What a connection may be waiting for; each kind has one duration for the whole server.
enum class DeadlineKind { header, body, keep_alive, linger, write, parting, request, half_closed };
inline constexpr std::size_t kDeadlineKinds = 8;

class DeadlineOwner {
 public:
  virtual void on_deadline(DeadlineKind kind) noexcept = 0;

 protected:
  ~DeadlineOwner() = default;
};

// A place in one of the queues of Deadlines; a member of its owner.
class Deadline {
 public:
  explicit Deadline(DeadlineOwner& owner) : owner_(owner) {}
  Deadline(const Deadline&) = delete;
  bool armed() const { return next_ != nullptr; }
  DeadlineKind kind() const { return kind_; }
  // Armed, and the loop has not come to say that it is over.
  bool overdue(std::chrono::steady_clock::time_point now) const { return armed() && at_ <= now; }

 private:
  friend class Deadlines;
  DeadlineOwner& owner_;
  Deadline* previous_ = nullptr;
  Deadline* next_ = nullptr;
  DeadlineKind kind_ = DeadlineKind::header;
  std::chrono::steady_clock::time_point at_;
};

// The timeouts of all connections on one libuv timer. As each kind has a constant duration, its
// queue is ordered by itself, and arming is O(1). While nothing is armed the timer is off: an idle
// loop has no tick. The clock is read when a deadline is armed, since the loop's own time may be as
// old as the callback that runs.
// A Deadline must be disarmed before it or this object is destroyed.
class Deadlines {
 public:
  using Clock = std::chrono::steady_clock;
  using Durations = std::array<std::chrono::milliseconds, kDeadlineKinds>;

  Deadlines(EventLoop& loop, const Durations& durations);
  ~Deadlines();
  Deadlines(const Deadlines&) = delete;

  // (Re)arms; a kind whose duration is 0 is switched off: disarms. `now` saves reading the clock
  // where the caller just did.
  void arm(Deadline& deadline, DeadlineKind kind) { arm(deadline, kind, Clock::now()); }
  void arm(Deadline& deadline, DeadlineKind kind, Clock::time_point now);
  // As arm(), unless what is armed comes sooner.
  void arm_sooner(Deadline& deadline, DeadlineKind kind);
  void disarm(Deadline& deadline);
  // Not switched off.
  bool on(DeadlineKind kind) const {
    return durations_[static_cast<std::size_t>(kind)].count() > 0;
  }

 private:
  struct Queue {
    explicit Queue(DeadlineOwner& nobody) : ends(nobody) { ends.next_ = ends.previous_ = &ends; }
    bool empty() const { return ends.next_ == &ends; }
    Deadline ends;  // the first is ends.next_, the last ends.previous_
  };
  struct Nobody final : DeadlineOwner {
    void on_deadline(DeadlineKind) noexcept override {}
  };

  void on_timer();
  void expire(Queue& queue, Clock::time_point now);
  void wake_at(Clock::time_point at, Clock::time_point now);

  Nobody nobody_;
  Durations durations_;
  std::array<Queue, kDeadlineKinds> queues_;
  Timer timer_;
  Clock::time_point wake_;
};

}  // namespace mgr::server
