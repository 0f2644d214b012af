// emu.h: how a test steers the emulator and asks what it found.
//
// The emulator runs CUDA kernel source on the CPU. A CUDA thread is a fiber; all fibers of a launch share one OS
// thread, and a seeded random choice says which runs next whenever one waits, so a schedule can be repeated. A few
// blocks at a time are interleaved. It comes in four flavors of the same kernels:
//   plain  finds wrong results, deadlocks and divergent barriers; shared memory starts as NaN or 0xCD
//   asan   the same under AddressSanitizer and UBSan
//   check  memory, initialization and race checker by CUDA's rules (checker.h)
//   count  what a profiler would count: requests, sectors, bank conflicts, barriers (counts.h)
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace emu {

enum class Order { kInOrder, kReverse, kRandom };

// Read at each launch. Everything random follows from the seed and the number of launches since restart().
struct Options {
  uint64_t seed = 1;                       // odd and even seeds also poison fresh memory differently
  Order order = Order::kRandom;            // of blocks, and of the threads that could run
  unsigned resident_blocks = 4;            // how many blocks are interleaved
  unsigned multiprocessors = 4;            // few, so that persistent kernels loop
  unsigned blocks_per_multiprocessor = 2;  // at most; a large block's threads and shared memory leave room for fewer
  unsigned preempt = 0;  // n: switch threads at every n-th atomic or checked access, on average; 0: hardly ever
};

extern Options options;

// Takes these options and starts over, as if nothing had been launched before.
void restart(const Options& options);

// Findings since restart(). One that repeats on the same source lines counts again, but its text is kept once; at most
// 100 texts are kept. A finding makes its launch fail, with its text as the error's message.
int finding_count();
const std::vector<std::string>& findings();  // what, where in the source, which kernel, block and thread

// The host's side of CUDA: what a test sets up, and what it counts.
struct Host {
  int devices = 1;
  int architecture = 90;                        // kernels are compiled for it: 90 for sm_90
  bool reads_host_memory = true;                // whether a device can read memory that is not CUDA's
  std::map<const void*, int> device_of_memory;  // by addresses that a test has placed; others are not CUDA's
  // Whether the stream `captured` is being captured, in the global mode: loading, setting up a device and waiting are
  // then errors unless the thread is relaxed.
  bool capturing = false;
  const void* captured = nullptr;
  std::string next_failure;          // the function whose next call fails
  std::map<std::string, int> calls;  // by function, for some of them; and "launch on device N"
};

extern Host host;

int current_device();  // of this thread

}  // namespace emu
