// patterns.h: kernels whose memory accesses can be counted by hand, and those counts: what a GPU's profiler and the
// count flavor of the emulator must both say.
#pragma once

#include <vector>

#include "common/stream.h"

namespace ssd::patterns {

struct Use {
  int requests = 0;   // per warp
  int sectors = 0;    // of 32 bytes, in global memory
  int conflicts = 0;  // passes over the banks beyond what the width needs, in shared memory
};

struct Pattern {
  const char* name;
  void (*run)(const float* from, float* to, Stream stream);  // kFloats each
  int bytes;                                                 // of an access to `from`, or to shared memory
  Use global_loads, global_stores, shared_loads, shared_stores;
  int contended = 0;  // lanes of atomics beyond the first on their word
};

constexpr int kWarps = 4;  // in 2 blocks: all counts are multiples of it
constexpr int kFloats = 1 << 16;

const std::vector<Pattern>& all();

}  // namespace ssd::patterns
