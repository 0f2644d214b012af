// counts.h: what the count flavor counts of each launch, as a profiler on a GPU would.
//
// Every memory access of every thread is recorded with the line of code that made it, and every basic block that a
// thread enters (-fsanitize-coverage=trace-pc). Where the whole warp meets (a barrier, __syncwarp, the block's end),
// the lanes' records are merged: the lanes at the lowest address in the code go first, together, so lanes that took
// different branches meet again after them. What some lanes access together is one request.
//
// The host's compiler may keep other values in registers than a GPU's, and reads a struct of four floats one float at a
// time; four elements side by side, read or written at once at an address that is a multiple of their size, count as
// 16-byte accesses. Local arrays, kernel arguments and __device__ variables are not counted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace emu {

enum class Space : uint8_t { kGlobal, kShared };
enum class Use : uint8_t { kLoad, kStore, kAtomic };

// The accesses by one instruction, as far as the host's compiler tells.
struct SiteCounts {
  int bytes = 0;            // per lane
  uint64_t lanes = 0;       // accesses, per thread
  uint64_t requests = 0;    // per warp
  uint64_t sectors = 0;     // of 32 bytes, in global memory
  uint64_t least = 0;       // sectors that as many bytes would fill side by side
  uint64_t wavefronts = 0;  // passes over the banks, in shared memory
  uint64_t contended = 0;   // lanes of an atomic beyond the first on the same word
  uint64_t conflicts = 0;   // wavefronts beyond those that accesses of this width need
};

struct LaunchCounts {
  std::string kernel;
  std::array<unsigned, 3> grid{}, block{};
  std::size_t dynamic_shared = 0, static_shared = 0;                          // bytes per block
  std::map<std::pair<const void*, std::pair<Space, Use>>, SiteCounts> sites;  // by return address
  uint64_t bytes_read = 0, bytes_written = 0;                                 // of global memory, each byte once
  uint64_t barriers = 0;  // of the block, cluster or grid, on the longest path of a block
  // Requests on the longest path of a warp: they wait for each other, unless several are in flight at a time.
  uint64_t longest_loads = 0, longest_shared = 0;
};

struct Counts {
  std::vector<LaunchCounts> launches;  // in order
  std::vector<std::size_t> memsets;    // bytes of each
};

void start_counting();
const Counts& counts();  // since then

}  // namespace emu
