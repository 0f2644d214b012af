// Interrupts: long loops on the CPU poll, so that Ctrl-C or another signal ends a call while it runs.
//
// A loop that can take longer than a second calls poll_interrupt(steps) with the number of elementary steps, such as
// IoUs, since its last call; as often as it likes, since most calls only count. It may do so anywhere, also within the
// body of a parallel_for (parallel.h), but not while it holds a lock. The call throws if the op is to end, after which
// the op's outputs have any values.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <utility>

namespace ssd {

// Thrown in the other threads of a loop when one of them has failed, and dropped where the loop ends.
struct LoopStopped {};

namespace detail {

constexpr int64_t kStepsPerPoll = int64_t{1} << 16;  // some 10 to 1000 microseconds of work
constexpr std::chrono::milliseconds kCheckInterval{100};

// What polls of a thread look at.
struct Polling {
  void (*check)() = nullptr;                     // throws if the op is to end; null: nobody asks
  const std::atomic<bool>* stopped = nullptr;    // of the parallel loop that the thread is in; null: in none
  int64_t steps_left = kStepsPerPoll;            // until the thread looks
  std::chrono::steady_clock::time_point next{};  // when to check; the epoch: kCheckInterval after the first look
};
inline thread_local Polling polling;

__attribute__((noinline, cold)) inline void poll_now() {
  Polling& mine = polling;
  mine.steps_left = kStepsPerPoll;
  if (mine.stopped != nullptr && mine.stopped->load(std::memory_order_relaxed)) throw LoopStopped{};
  if (mine.check == nullptr) return;
  const auto now = std::chrono::steady_clock::now();
  if (mine.next == std::chrono::steady_clock::time_point{}) mine.next = now + kCheckInterval;
  if (now < mine.next) return;
  mine.next = now + kCheckInterval;
  mine.check();
}

}  // namespace detail

// Throws if the op is to end. Looks once in kStepsPerPoll steps, and asks `check` at most once in kCheckInterval.
inline void poll_interrupt(int64_t steps = detail::kStepsPerPoll) {
  if ((detail::polling.steps_left -= steps) <= 0) detail::poll_now();
}

// While this lives, polls of the thread that made it call `check`, which throws to end the op. Its worker threads never
// call it. A check may run another op: that one polls by itself.
class Interruptible {
 public:
  explicit Interruptible(void (*check)()) : outer_(std::exchange(detail::polling, detail::Polling{check})) {}
  ~Interruptible() { detail::polling = outer_; }
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

 private:
  const detail::Polling outer_;
};

}  // namespace ssd
