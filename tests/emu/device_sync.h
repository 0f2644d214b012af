// device_sync.h: barriers, votes, shuffles, matches and reductions, as kernels call them.
#pragma once

#include <type_traits>

namespace emu {

// Where in the kernel's source a function was called.
struct Site {
  const char* file;
  int line;

  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

enum class WarpOp {
  kSync,
  kShuffle,
  kBallot,
  kMatchAny,
  kAdd,
  kMin,
  kMax,
  kUnsignedMin,
  kUnsignedMax,
  kAnd,
  kOr,
  kXor,
};

// Waits until every lane that the mask names has called the same op, then writes the caller's result: for a shuffle, a
// value of `bytes` bytes from the source lane; for the others, 32 bits; for kSync, nothing.
void warp_collective(WarpOp op, unsigned mask, const void* value, void* result, int bytes, int source_lane, Site site);

// Waits for the block. Returns for how many threads the predicate holds.
int block_barrier(bool predicate, Site site);

int lane_id();

template <class T>
T shuffle(unsigned mask, T value, int source_lane, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 16, "shuffles move at most 16 bytes");
  T result;
  warp_collective(WarpOp::kShuffle, mask, &value, &result, sizeof(T), source_lane, site);
  return result;
}

template <class T>
T reduce(WarpOp op, unsigned mask, T value, Site site) {
  static_assert(sizeof(T) == 4, "CUDA reduces 32-bit integers");
  T result;
  warp_collective(op, mask, &value, &result, sizeof(T), 0, site);
  return result;
}

// First lane of the caller's segment of width lanes.
inline int segment_begin(int width) { return lane_id() & ~(width - 1); }

}  // namespace emu

// ---- barriers ------------------------------------------------------------------------------------------------------

inline void __syncthreads(emu::Site site = emu::Site::here()) { emu::block_barrier(false, site); }

inline int __syncthreads_count(int predicate, emu::Site site = emu::Site::here()) {
  return emu::block_barrier(predicate != 0, site);
}

inline int __syncthreads_or(int predicate, emu::Site site = emu::Site::here()) {
  return emu::block_barrier(predicate != 0, site) != 0;
}

inline int __syncthreads_and(int predicate, emu::Site site = emu::Site::here()) {
  return emu::block_barrier(predicate == 0, site) == 0;
}

inline void __syncwarp(unsigned mask = 0xffffffffu, emu::Site site = emu::Site::here()) {
  emu::warp_collective(emu::WarpOp::kSync, mask, nullptr, nullptr, 0, 0, site);
}

// ---- votes ---------------------------------------------------------------------------------------------------------

inline unsigned __ballot_sync(unsigned mask, int predicate, emu::Site site = emu::Site::here()) {
  unsigned lanes = 0;
  emu::warp_collective(emu::WarpOp::kBallot, mask, &predicate, &lanes, sizeof predicate, 0, site);
  return lanes;
}

inline int __any_sync(unsigned mask, int predicate, emu::Site site = emu::Site::here()) {
  return __ballot_sync(mask, predicate, site) != 0;
}

inline int __all_sync(unsigned mask, int predicate, emu::Site site = emu::Site::here()) {
  return __ballot_sync(mask, predicate == 0, site) == 0;
}

template <class T>
unsigned __match_any_sync(unsigned mask, T value, emu::Site site = emu::Site::here()) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA matches 32-bit and 64-bit values");
  unsigned lanes = 0;
  emu::warp_collective(emu::WarpOp::kMatchAny, mask, &value, &lanes, sizeof value, 0, site);
  return lanes;
}

// ---- shuffles ------------------------------------------------------------------------------------------------------

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, emu::Site site = emu::Site::here()) {
  return emu::shuffle(mask, value, emu::segment_begin(width) + (source & (width - 1)), site);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, emu::Site site = emu::Site::here()) {
  const int lane = emu::lane_id();
  const int source = lane - static_cast<int>(delta);
  return emu::shuffle(mask, value, source < emu::segment_begin(width) ? lane : source, site);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, emu::Site site = emu::Site::here()) {
  const int lane = emu::lane_id();
  const int source = lane + static_cast<int>(delta);
  return emu::shuffle(mask, value, source >= emu::segment_begin(width) + width ? lane : source, site);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, emu::Site site = emu::Site::here()) {
  const int lane = emu::lane_id();
  const int source = lane ^ lane_mask;
  return emu::shuffle(mask, value, source >= emu::segment_begin(width) + width ? lane : source, site);
}

// ---- reductions ----------------------------------------------------------------------------------------------------

inline int __reduce_add_sync(unsigned mask, int value, emu::Site site = emu::Site::here()) {
  return emu::reduce(emu::WarpOp::kAdd, mask, value, site);
}

inline unsigned __reduce_add_sync(unsigned mask, unsigned value, emu::Site site = emu::Site::here()) {
  return emu::reduce(emu::WarpOp::kAdd, mask, value, site);
}

inline int __reduce_min_sync(unsigned mask, int value, emu::Site site = emu::Site::here()) {
  return emu::reduce(emu::WarpOp::kMin, mask, value, site);
}

inline unsigned __reduce_min_sync(unsigned mask, unsigned value, emu::Site site = emu::Site::here()) {
  return emu::reduce(emu::WarpOp::kUnsignedMin, mask, value, site);
}

inline int __reduce_max_sync(unsigned mask, int value, emu::Site site = emu::Site::here()) {
  return emu::reduce(emu::WarpOp::kMax, mask, value, site);
}

inline unsigned __reduce_max_sync(unsigned mask, unsigned value, emu::Site site = emu::Site::here()) {
  return emu::reduce(emu::WarpOp::kUnsignedMax, mask, value, site);
}

inline unsigned __reduce_and_sync(unsigned mask, unsigned value, emu::Site site = emu::Site::here()) {
  return emu::reduce(emu::WarpOp::kAnd, mask, value, site);
}

inline unsigned __reduce_or_sync(unsigned mask, unsigned value, emu::Site site = emu::Site::here()) {
  return emu::reduce(emu::WarpOp::kOr, mask, value, site);
}

inline unsigned __reduce_xor_sync(unsigned mask, unsigned value, emu::Site site = emu::Site::here()) {
  return emu::reduce(emu::WarpOp::kXor, mask, value, site);
}
