#include "common/server/deadlines.h"

#include "common/base/check.h"

namespace mgr::server {

Deadlines::Deadlines(EventLoop& loop, const Durations& durations)
    : durations_(durations),
      queues_{Queue(nobody_), Queue(nobody_), Queue(nobody_), Queue(nobody_),
              Queue(nobody_), Queue(nobody_), Queue(nobody_), Queue(nobody_)},
      timer_(loop, [this] { on_timer(); }) {}

Deadlines::~Deadlines() {
  for (const Queue& queue : queues_) CHECK(queue.empty());
}

void Deadlines::arm(Deadline& deadline, DeadlineKind kind, Clock::time_point now) {
  disarm(deadline);
  const auto index = static_cast<std::size_t>(kind);
  if (durations_[index].count() == 0) return;
  deadline.kind_ = kind;
  deadline.at_ = now + durations_[index];
  Deadline& ends = queues_[index].ends;
  deadline.previous_ = ends.previous_;
  deadline.next_ = &ends;
  ends.previous_->next_ = &deadline;
  ends.previous_ = &deadline;
  wake_at(deadline.at_, now);
}

void Deadlines::arm_sooner(Deadline& deadline, DeadlineKind kind) {
  const auto now = Clock::now();
  const auto at = now + durations_[static_cast<std::size_t>(kind)];
  if (!deadline.armed() || at < deadline.at_) arm(deadline, kind, now);
}

void Deadlines::disarm(Deadline& deadline) {
  if (!deadline.armed()) return;
  deadline.previous_->next_ = deadline.next_;
  deadline.next_->previous_ = deadline.previous_;
  deadline.previous_ = deadline.next_ = nullptr;
}

void Deadlines::wake_at(Clock::time_point at, Clock::time_point now) {
  if (timer_.active() && wake_ <= at) return;
  wake_ = at;
  timer_.start(std::chrono::ceil<std::chrono::milliseconds>(at - now));
}

void Deadlines::on_timer() {
  const auto now = Clock::now();
  for (Queue& queue : queues_) expire(queue, now);
  for (Queue& queue : queues_) {
    if (!queue.empty()) wake_at(queue.ends.next_->at_, now);
  }
}

void Deadlines::expire(Queue& queue, Clock::time_point now) {
  while (!queue.empty() && queue.ends.next_->at_ <= now) {
    Deadline& first = *queue.ends.next_;
    const DeadlineKind kind = first.kind_;
    disarm(first);
    first.owner_.on_deadline(kind);
  }
}

}  // namespace mgr::server
