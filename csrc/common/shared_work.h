// Work that one thread shares with others now and then: a parallel region that is entered once, in which the calling
// thread goes its own way and has parts of its work done by all threads. Threads that are late, as on a busy machine,
// hold nobody up: whoever is free takes the next part.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>

#include "common/interrupt.h"
#include "common/parallel.h"

namespace ssd {

class SharedWork {
 public:
  // Calls driver(work) on the calling thread, and lets the other threads help it until it returns.
  template <typename Driver>
  static void with(const Driver& driver) {
    SharedWork work;
    parallel_for(parallel_threads(), 1, [&](int64_t thread, int64_t) {
      if (thread == 0) {
        const Finish finish{work};  // whatever the driver throws
        driver(work);
      } else {
        work.help();
      }
    });
  }

  // For the driver: calls body(part) for all parts of [0, count), on any threads. No thread is at a part any more when
  // this returns, or throws because a poll did.
  template <typename Body>
  void run(int64_t count, const Body& body) {
    body_ = &body;
    call_ = [](const void* of, int64_t part) { (*static_cast<const Body*>(of))(part); };
    parts_done_.store(0, std::memory_order_relaxed);
    parts_left_.store(count, std::memory_order_release);
    const WaitForParts wait_for_parts{*this, count};
    for (int64_t part; (part = take_part()) >= 0;) do_part(part);
    while (parts_done_.load(std::memory_order_acquire) < count) wait();
  }

 private:
  struct Finish {
    SharedWork& work;
    ~Finish() { work.is_finished_.store(true, std::memory_order_release); }
  };

  // When a poll ends the driver's run, other threads still use its variables.
  struct WaitForParts {
    SharedWork& work;
    int64_t count;
    ~WaitForParts() {
      const int64_t left = std::max<int64_t>(work.parts_left_.exchange(0), 0);
      while (work.parts_done_.load(std::memory_order_acquire) < count - left) std::this_thread::yield();
    }
  };
  struct PartDone {
    SharedWork& work;
    ~PartDone() { work.parts_done_.fetch_add(1, std::memory_order_release); }
  };

  void help() {
    while (!is_finished_.load(std::memory_order_acquire)) {
      const int64_t part = take_part();
      if (part >= 0) {
        do_part(part);
      } else {
        wait();
      }
    }
  }

  // Returns a part that no other thread gets, or a number below 0.
  int64_t take_part() {
    if (parts_left_.load(std::memory_order_relaxed) <= 0) return -1;
    return parts_left_.fetch_sub(1, std::memory_order_acquire) - 1;
  }

  void do_part(int64_t part) {
    const PartDone part_done{*this};  // also if a poll ends it
    call_(body_, part);
  }

  static void wait() {
    poll_interrupt();
    std::this_thread::yield();
  }

  const void* body_ = nullptr;  // with call_: published by parts_left_
  void (*call_)(const void* body, int64_t part) = nullptr;
  std::atomic<int64_t> parts_left_{0};  // below 0 when threads have asked in vain
  std::atomic<int64_t> parts_done_{0};
  std::atomic<bool> is_finished_{false};
};

}  // namespace ssd
