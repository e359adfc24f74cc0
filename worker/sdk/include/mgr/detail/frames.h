#pragma once

#include <array>
#include <cstddef>
#include <new>
#include <utility>

namespace mgr::app::detail {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kRecycleFrames = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool kRecycleFrames = false;
#else
inline constexpr bool kRecycleFrames = true;
#endif
#else
inline constexpr bool kRecycleFrames = true;
#endif

struct FreeFrame {
  FreeFrame* next;
};

// Those of one thread, by size.
struct FreeFrames {
  static constexpr std::size_t kPlaces = 128;
  std::array<FreeFrame*, kPlaces> heads{};
  std::size_t kept = 0;
  bool watched = false;  // AtEndOfThread will come
  bool closed = false;   // it has come
};

// Memory of coroutine frames and of what lives as long as one, recycled by size in each thread, so
// that a request allocates nothing once the first ones have passed. A thread keeps at most
// kMostKept bytes. Under the address sanitizer nothing is recycled, so that it sees each end.
class Frames {
 public:
  static void* allocate(std::size_t size) {
    const std::size_t place = place_of(size);
    if (!kRecycleFrames || place >= kPlaces) return ::operator new(size);
    Block*& head = lists_.heads[place];
    if (!head) return ::operator new(place* kStep);
    Block* block = head;
    head = block->next;
    lists_.kept -= place * kStep;
    return block;
  }

  static void release(void* memory, std::size_t size) noexcept {
    const std::size_t place = place_of(size);
    if (!kRecycleFrames || place >= kPlaces || lists_.kept >= kMostKept || lists_.closed) {
      ::operator delete(memory);
      return;
    }
    if (!lists_.watched) watch();
    lists_.heads[place] = new (memory) Block{lists_.heads[place]};
    lists_.kept += place * kStep;
  }

 private:
  static constexpr std::size_t kStep = 64;
  static constexpr std::size_t kPlaces = FreeFrames::kPlaces;
  static constexpr std::size_t kMostKept = 4 << 20;

  using Block = FreeFrame;

  struct AtEndOfThread {
    ~AtEndOfThread() {
      lists_.closed = true;
      for (Block* head : lists_.heads) {
        while (head) ::operator delete(std::exchange(head, head->next));
      }
      lists_.heads = {};
    }
  };

  static std::size_t place_of(std::size_t size) { return (size + kStep - 1) / kStep; }
  // Apart from the lists, which need no constructor and no destructor: so their use is cheap.
  static void watch() noexcept {
    static thread_local AtEndOfThread at_end;
    (void)&at_end;
    lists_.watched = true;
  }

  static inline constinit thread_local FreeFrames lists_{};
};

}  // namespace mgr::app::detail
