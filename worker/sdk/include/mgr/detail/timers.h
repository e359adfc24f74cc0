#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace mgr::app::detail {

class Call;

// A coroutine that sleeps; lives in its frame.
struct Sleeper {
  std::chrono::steady_clock::time_point due;
  std::uint64_t order = 0;  // of two that are due at the same time the older comes first
  std::size_t place = 0;    // in the heap
  Call* call = nullptr;
  bool awake = true;  // not in the heap
  std::coroutine_handle<> coroutine;
};

// Sleepers by the time when they are due: a binary heap, from which any can be taken.
class Timers {
 public:
  bool empty() const { return heap_.empty(); }
  const Sleeper& first() const { return *heap_.front(); }
  // Orders from this on are given to sleepers that are added later.
  std::uint64_t next_order() const { return next_order_; }

  void add(Sleeper& sleeper) {
    sleeper.order = next_order_++;
    heap_.push_back(&sleeper);
    rise(heap_.size() - 1);
  }

  void remove(Sleeper& sleeper) {
    const std::size_t place = sleeper.place;
    Sleeper* last = heap_.back();
    heap_.pop_back();
    if (last == &sleeper) return;
    put(place, last);
    rise(place);
    sink(last->place);
  }

  // The first that is due at `now` and was added before `order`; null: none.
  Sleeper* take_due(std::chrono::steady_clock::time_point now, std::uint64_t order) {
    if (heap_.empty() || heap_.front()->due > now || heap_.front()->order >= order) return nullptr;
    Sleeper* due = heap_.front();
    remove(*due);
    return due;
  }

 private:
  static bool before(const Sleeper* a, const Sleeper* b) {
    return a->due != b->due ? a->due < b->due : a->order < b->order;
  }
  void put(std::size_t place, Sleeper* sleeper) {
    heap_[place] = sleeper;
    sleeper->place = place;
  }
  void rise(std::size_t place) {
    Sleeper* sleeper = heap_[place];
    while (place > 0 && before(sleeper, heap_[(place - 1) / 2])) {
      put(place, heap_[(place - 1) / 2]);
      place = (place - 1) / 2;
    }
    put(place, sleeper);
  }
  void sink(std::size_t place) {
    Sleeper* sleeper = heap_[place];
    for (std::size_t child = 2 * place + 1; child < heap_.size(); child = 2 * place + 1) {
      if (child + 1 < heap_.size() && before(heap_[child + 1], heap_[child])) ++child;
      if (!before(heap_[child], sleeper)) break;
      put(place, heap_[child]);
      place = child;
    }
    put(place, sleeper);
  }

  std::vector<Sleeper*> heap_;
  std::uint64_t next_order_ = 0;
};

}  // namespace mgr::app::detail
