// CPU threads: parallel_for over torch's own OpenMP pool, since a second pool beside it only makes both slower.
//
// The library does not link OpenMP or torch. torch loads GNU's libgomp into the process, where its entry points are
// looked up; torch itself says how many threads to use, since torch.set_num_threads reaches libgomp only in threads
// that have asked torch. Without libgomp, within another parallel region, and in a child that was forked after this
// library was loaded (libgomp would wait for the parent's threads forever), the loop runs on the caller's thread.
// Results never depend on the number of threads.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <thread>

#include "common/interrupt.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace ssd {

// While this lives, subnormals keep their values, whatever the caller's flush-to-zero setting. Every op has one
// (bindings.cpp), and so has each thread of a loop.
class SubnormalsOn {
 public:
#if defined(__SSE__)
  SubnormalsOn() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ & ~0x8040u); }  // FTZ and DAZ off
  ~SubnormalsOn() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#endif
};

namespace detail {

// Set when the library is loaded, not at the first loop, which may be a forked child's.
inline const pid_t kLoadedIn = getpid();

constexpr int64_t kMostThreads = 256;

struct OpenMp {
  void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags) = nullptr;
  int (*max_threads)() = nullptr;  // torch's if it is loaded, else libgomp's
  int (*thread_index)() = nullptr;
  int (*team_size)() = nullptr;
  int (*in_parallel)() = nullptr;

  static const OpenMp& instance() {
    static const OpenMp found = [] {
      OpenMp library;
      const auto find = [](auto& function, const char* name) {
        function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(RTLD_DEFAULT, name));
        return function != nullptr;
      };
      const bool all = find(library.parallel, "GOMP_parallel") && find(library.max_threads, "omp_get_max_threads") &&
                       find(library.thread_index, "omp_get_thread_num") &&
                       find(library.team_size, "omp_get_num_threads") && find(library.in_parallel, "omp_in_parallel");
      if (!all) library.parallel = nullptr;
      if (void* torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD)) {
        if (void* get_num_threads = dlsym(torch, "_ZN2at15get_num_threadsEv")) {  // int at::get_num_threads()
          library.max_threads = reinterpret_cast<int (*)()>(get_num_threads);
        }
      }
      return library;
    }();
    return found;
  }
};

// Within a loop, a poll of any thread ends when another thread has failed. Thread 0 is the caller's.
template <typename Body>
struct ParallelLoop {
  const Body& body;
  int64_t count;
  std::exception_ptr errors[kMostThreads] = {};
  std::atomic<bool> stopped{false};
  std::atomic<int64_t> parts_done{0};

  static void run(void* memory) {
    auto& loop = *static_cast<ParallelLoop*>(memory);
    const OpenMp& openmp = OpenMp::instance();
    const int64_t index = openmp.thread_index();
    const int64_t threads = openmp.team_size();
    const SubnormalsOn subnormals_on;
    polling.stopped = &loop.stopped;
    try {
      const int64_t begin = loop.count * index / threads;
      const int64_t end = loop.count * (index + 1) / threads;
      if (begin < end) loop.body(begin, end);
      if (index == 0 && polling.check != nullptr) loop.wait_for(threads - 1);
    } catch (const LoopStopped&) {  // the error that stopped the loop is another thread's
    } catch (...) {                 // must not leave the OpenMP region
      loop.errors[index] = std::current_exception();
      loop.stopped = true;
    }
    polling.stopped = nullptr;
    loop.parts_done.fetch_add(1, std::memory_order_release);
  }

  // Waits until so many threads are done, as the end of the region does, but polls. It sleeps a fraction of the time
  // that it has waited already, so that the loop ends little later than it would.
  void wait_for(int64_t threads) const {
    constexpr std::chrono::microseconds kAwake{500};
    const auto begin = std::chrono::steady_clock::now();
    while (parts_done.load(std::memory_order_acquire) < threads) {
      const auto waited = std::chrono::steady_clock::now() - begin;
      if (waited < kAwake) continue;
      std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(waited / 32, kCheckInterval / 10));
      poll_interrupt();
    }
  }
};

}  // namespace detail

// How many threads a loop that begins here has at most.
inline int64_t parallel_threads() {
  const detail::OpenMp& openmp = detail::OpenMp::instance();
  const bool usable = openmp.parallel != nullptr && detail::kLoadedIn == getpid() && !openmp.in_parallel();
  return usable ? std::min<int64_t>(openmp.max_threads(), detail::kMostThreads) : 1;
}

// Calls body(begin, end) for disjoint ranges that cover [0, count), each of at least `grain` items if there are enough.
template <typename Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  const int64_t threads = std::min(parallel_threads(), (count + grain - 1) / grain);
  if (threads <= 1) {
    body(int64_t{0}, count);
    return;
  }
  detail::ParallelLoop<Body> loop{body, count};
  detail::OpenMp::instance().parallel(&detail::ParallelLoop<Body>::run, &loop, static_cast<unsigned>(threads), 0);
  for (const std::exception_ptr& error : loop.errors) {
    if (error) std::rethrow_exception(error);
  }
}

// The same, for a body that does not poll: calls it for parts of at most `grain` items, with a poll after each.
template <typename Body>
void parallel_for_parts(int64_t count, int64_t grain, int64_t steps_per_item, const Body& body) {
  parallel_for(count, grain, [&](int64_t begin, int64_t end) {
    for (; begin < end; begin += grain) {
      body(begin, std::min(begin + grain, end));
      poll_interrupt(grain * steps_per_item);
    }
  });
}

}  // namespace ssd
