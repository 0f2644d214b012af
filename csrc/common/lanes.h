// Vectors of floats as wide as a CPU's registers, for CPU loops that compilers do not vectorize well by themselves.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/box_math.h"
#include "common/simd.h"

namespace ssd {

template <int kLanes>
struct Lanes;
template <>
struct Lanes<4> {
  typedef float Floats __attribute__((vector_size(16)));
  typedef int Ints __attribute__((vector_size(16)));
};
template <>
struct Lanes<8> {
  typedef float Floats __attribute__((vector_size(32)));
  typedef int Ints __attribute__((vector_size(32)));
};
template <>
struct Lanes<16> {
  typedef float Floats __attribute__((vector_size(64)));
  typedef int Ints __attribute__((vector_size(64)));
};
template <int kLanes>
using Floats = typename Lanes<kLanes>::Floats;
template <int kLanes>
using Ints = typename Lanes<kLanes>::Ints;  // -1 where a comparison of Floats is true, else 0

// Defines the function `name` once per instruction set, as `body` with as many lanes as the registers hold. The
// compiler calls the best one, for which it must see them all: keep such functions in the file that calls them.
#if defined(SSD_HAS_CLONES)
#define SSD_LANES_CLONES(result, name, parameters, body, ...)                                       \
  __attribute__((target("default"))) result name parameters { return body<4>(__VA_ARGS__); }        \
  __attribute__((target("arch=x86-64-v3"))) result name parameters { return body<8>(__VA_ARGS__); } \
  __attribute__((target("arch=x86-64-v4"))) result name parameters { return body<16>(__VA_ARGS__); }
#else
#define SSD_LANES_CLONES(result, name, parameters, body, ...) \
  result name parameters { return body<4>(__VA_ARGS__); }
#endif

template <int kLanes>
SSD_HD Floats<kLanes> load(const float* from) {
  Floats<kLanes> lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
template <int kLanes>
SSD_HD Floats<kLanes> all_lanes(float value) {
  return value - Floats<kLanes>{};
}

template <int kLanes>
SSD_HD bool any(Ints<kLanes> lanes) {
  if constexpr (kLanes > 4) {
    Ints<kLanes / 2> low, high;
    std::memcpy(&low, &lanes, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&lanes) + sizeof low, sizeof high);
    return any<kLanes / 2>(low | high);
  } else {
    return (lanes[0] | lanes[1] | lanes[2] | lanes[3]) != 0;
  }
}

// Brings the cache line of from[ahead], which may lie outside any array, into the second-level cache.
SSD_HD void prefetch(const float* from, int64_t ahead) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(from) + static_cast<uintptr_t>(ahead) * sizeof(float);
  __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 2);
}

}  // namespace ssd
