// patterns.cu: one kernel per pattern, so that a profiler lists them apart. Every warp does the same.
#include "common/cuda.cuh"
#include "patterns.h"

namespace ssd::patterns {

// A template with external linkage, because the host's linker puts it after the kernel, where order by address alone
// fails.
template <int kDistance>
__device__ __attribute__((noinline)) float load_twice(const float* from, int i) {
  return from[i] + from[i + kDistance];
}

namespace {

constexpr int kThreads = 64;

struct alignas(16) Four {
  float values[4];
};
// Uses all of a T, so that no compiler loads or stores less.
__device__ float sum(float x) { return x; }
__device__ float sum(double x) { return static_cast<float>(x); }
__device__ float sum(const Four& x) { return x.values[0] + x.values[1] + x.values[2] + x.values[3]; }

template <class T>
__device__ T make(float x) {
  return static_cast<T>(x);
}
template <>
__device__ Four make<Four>(float x) {
  return {{x, x + 1, x + 2, x + 3}};
}

__device__ int lane() { return static_cast<int>(threadIdx.x) % kWarpSize; }
__device__ int warp() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / kWarpSize; }

// Each lane loads a T at (lane * stride + offset), and stores a float.
template <class T, int kStride, int kOffset>
__global__ void load_kernel(const T* __restrict__ from, float* __restrict__ to) {
  const T* row = from + warp() * kWarpSize * kStride;
  to[warp() * kWarpSize + lane()] = sum(row[lane() * kStride + kOffset]);
}

// Each lane stores a float at (lane * stride + offset).
template <int kStride, int kOffset>
__global__ void store_kernel(float* __restrict__ to) {
  to[(warp() * kWarpSize + lane()) * kStride + kOffset] = 1.0f;
}

// Each lane writes its Ts to shared memory side by side, then reads one at lane * stride.
template <class T, int kStride>
__global__ void shared_kernel(float* __restrict__ to) {
  SSD_SHARED(tile, T[kThreads / kWarpSize][kWarpSize * kStride]);
  T* row = tile[threadIdx.x / kWarpSize];
  for (int i = 0; i < kStride; ++i) row[i * kWarpSize + lane()] = make<T>(static_cast<float>(lane()));
  __syncwarp();
  to[warp() * kWarpSize + lane()] = sum(row[lane() * kStride]);
}

// All lanes load the same float.
__global__ void broadcast_kernel(const float* __restrict__ from, float* __restrict__ to) {
  to[warp() * kWarpSize + lane()] = from[warp()];
}

// Half of the lanes load.
__global__ void half_kernel(const float* __restrict__ from, float* __restrict__ to) {
  const int i = warp() * kWarpSize + lane();
  float value = 1.0f;
  if (lane() < kWarpSize / 2) value = from[i];
  to[i] = value;
}

// Lane i loads i floats.
__global__ void triangle_kernel(const float* __restrict__ from, float* __restrict__ to) {
  float sum = 0.0f;
#pragma unroll 1
  for (int i = 0; i < lane(); ++i) sum += from[i * kWarpSize + lane()];
  to[warp() * kWarpSize + lane()] = sum;
}

// In each of four rounds one half of the lanes, in turn, loads an extra float; then all lanes load one together.
__global__ void turns_kernel(const float* __restrict__ from, float* __restrict__ to) {
  float sum = 0.0f;
#pragma unroll 1
  for (int round = 0; round < 4; ++round) {
    if ((lane() / 16 + round) % 2 == 0) sum += from[1024 + static_cast<int>(sum) * 0 + lane()];
    sum += from[round * kWarpSize + lane()];
  }
  to[warp() * kWarpSize + lane()] = sum;
}

// The same, in a function that is called.
__global__ void called_kernel(const float* __restrict__ from, float* __restrict__ to) {
  float sum = 0.0f;
#pragma unroll 1
  for (int round = 0; round < 4; ++round) {
    if ((lane() / 16 + round) % 2 == 0) sum += load_twice<512>(from, 1024 + lane());
    sum += from[round * kWarpSize + lane()];
  }
  to[warp() * kWarpSize + lane()] = sum;
}

struct Three {
  float values[3];
};

// A struct that no single instruction loads.
__global__ void three_kernel(const float* __restrict__ from, float* __restrict__ to) {
  const Three value = reinterpret_cast<const Three*>(from)[warp() * kWarpSize + lane()];
  to[warp() * kWarpSize + lane()] = value.values[0] + value.values[1] + value.values[2];
}

// Loads four floats side by side, from an address that is a multiple of 16 bytes only in every fourth lane.
__global__ void stencil_kernel(const float* __restrict__ from, float* __restrict__ to) {
  const float* p = from + warp() * kWarpSize + lane();
  to[warp() * kWarpSize + lane()] = p[0] + p[1] + p[2] + p[3];
}

// All lanes load; then half of them meet alone, and exchange their values through shared memory.
__global__ void half_meets_kernel(const float* __restrict__ from, float* __restrict__ to) {
  SSD_SHARED(values, float[kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  float value = from[warp() * kWarpSize + lane()];
  if (lane() < kWarpSize / 2) {
    values[thread] = value;
    __syncwarp(0x0000ffffu);
    value = values[thread ^ 1];
  }
  to[warp() * kWarpSize + lane()] = value;
}

// All lanes of a warp add to the same number; those of each half to a number of their own.
__global__ void contended_kernel(const float* __restrict__ from, float* __restrict__ to) {
  SSD_SHARED(counts, int[kThreads]);
  counts[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(&counts[warp() % 2], 1);
  atomicAdd(&counts[2 + static_cast<int>(threadIdx.x) / 16], 1);
  __syncthreads();
  to[warp() * kWarpSize + lane()] = static_cast<float>(counts[threadIdx.x]) + from[0];
}

template <class T, int kStride, int kOffset>
void load(const float* from, float* to, Stream stream) {
  launch(load_kernel<T, kStride, kOffset>, dim3(2), dim3(kThreads), 0, stream, reinterpret_cast<const T*>(from), to);
}

template <int kStride, int kOffset>
void store(const float*, float* to, Stream stream) {
  launch(store_kernel<kStride, kOffset>, dim3(2), dim3(kThreads), 0, stream, to);
}

template <class T, int kStride>
void shared(const float*, float* to, Stream stream) {
  launch(shared_kernel<T, kStride>, dim3(2), dim3(kThreads), 0, stream, to);
}

template <void (*kKernel)(const float*, float*)>
void plain(const float* from, float* to, Stream stream) {
  launch(kKernel, dim3(2), dim3(kThreads), 0, stream, from, to);
}

}  // namespace

// A warp's 32 floats fill 4 sectors, its 32 values of 16 bytes 16; 4 bytes further they reach into one more. Floats 2
// apart lie in twice as many, floats 32 apart in one each. A pass over the 32 banks serves 32 floats, 16 pairs or 8
// quadruples; floats 2 apart share banks in pairs, floats 32 apart all share one.
const std::vector<Pattern>& all() {
  static const Use one{kWarps, 4 * kWarps, 0};  // the store of a float per lane
  static const std::vector<Pattern> patterns{
      {"load 4 bytes, stride 1", load<float, 1, 0>, 4, {kWarps, 4 * kWarps, 0}, one, {}, {}},
      {"load 4 bytes, stride 2", load<float, 2, 0>, 4, {kWarps, 8 * kWarps, 0}, one, {}, {}},
      {"load 4 bytes, stride 32", load<float, 32, 0>, 4, {kWarps, 32 * kWarps, 0}, one, {}, {}},
      {"load 4 bytes, misaligned by 4", load<float, 1, 1>, 4, {kWarps, 5 * kWarps, 0}, one, {}, {}},
      {"load 8 bytes, stride 1", load<double, 1, 0>, 8, {kWarps, 8 * kWarps, 0}, one, {}, {}},
      {"load 16 bytes, stride 1", load<Four, 1, 0>, 16, {kWarps, 16 * kWarps, 0}, one, {}, {}},
      {"load 16 bytes, stride 2", load<Four, 2, 0>, 16, {kWarps, 32 * kWarps, 0}, one, {}, {}},
      {"load 16 bytes, misaligned by 16", load<Four, 1, 1>, 16, {kWarps, 17 * kWarps, 0}, one, {}, {}},
      {"load 4 bytes, broadcast", plain<broadcast_kernel>, 4, {kWarps, kWarps, 0}, one, {}, {}},
      {"load 4 bytes, half a warp", plain<half_kernel>, 4, {kWarps, 2 * kWarps, 0}, one, {}, {}},
      // 31 rounds; in round i the lanes above i load: from 4 sectors, then from as many as groups of 8 lanes are left.
      {"load 4 bytes, a triangle",
       plain<triangle_kernel>,
       4,
       {31 * kWarps, (7 * 4 + 8 * (3 + 2 + 1)) * kWarps, 0},
       one,
       {},
       {}},
      {"load 4 bytes, in turns", plain<turns_kernel>, 4, {8 * kWarps, (4 * 2 + 4 * 4) * kWarps, 0}, one, {}, {}},
      {"load 4 bytes, in turns, by a function",
       plain<called_kernel>,
       4,
       {12 * kWarps, (4 * 2 * 2 + 4 * 4) * kWarps, 0},
       one,
       {},
       {}},
      {"load 12 bytes, stride 1", plain<three_kernel>, 4, {3 * kWarps, 3 * 12 * kWarps, 0}, one, {}, {}},
      {"load 4 bytes, a stencil", plain<stencil_kernel>, 4, {4 * kWarps, (4 + 5 + 5 + 5) * kWarps, 0}, one, {}, {}},
      {"load 4 bytes, half a warp meets",
       plain<half_meets_kernel>,
       4,
       {kWarps, 4 * kWarps, 0},
       one,
       {kWarps, 0, 0},
       {kWarps, 0, 0}},
      {"atomics, contended",
       plain<contended_kernel>,
       4,
       {kWarps, kWarps, 0},
       one,
       {kWarps, 0, 0},
       {kWarps, 0, 0},
       (31 + 30) * kWarps},
      {"store 4 bytes, stride 2", store<2, 0>, 4, {}, {kWarps, 8 * kWarps, 0}, {}, {}},
      {"store 4 bytes, stride 32", store<32, 0>, 4, {}, {kWarps, 32 * kWarps, 0}, {}, {}},
      {"store 4 bytes, misaligned by 4", store<1, 1>, 4, {}, {kWarps, 5 * kWarps, 0}, {}, {}},
      {"shared 4 bytes, stride 1", shared<float, 1>, 4, {}, one, {kWarps, 0, 0}, {kWarps, 0, 0}},
      {"shared 4 bytes, stride 2", shared<float, 2>, 4, {}, one, {kWarps, 0, kWarps}, {2 * kWarps, 0, 0}},
      {"shared 4 bytes, stride 3", shared<float, 3>, 4, {}, one, {kWarps, 0, 0}, {3 * kWarps, 0, 0}},
      {"shared 4 bytes, stride 32", shared<float, 32>, 4, {}, one, {kWarps, 0, 31 * kWarps}, {32 * kWarps, 0, 0}},
      {"shared 8 bytes, stride 1", shared<double, 1>, 8, {}, one, {kWarps, 0, 0}, {kWarps, 0, 0}},
      {"shared 16 bytes, stride 1", shared<Four, 1>, 16, {}, one, {kWarps, 0, 0}, {kWarps, 0, 0}},
      {"shared 16 bytes, stride 2", shared<Four, 2>, 16, {}, one, {kWarps, 0, 4 * kWarps}, {2 * kWarps, 0, 0}},
  };
  return patterns;
}

}  // namespace ssd::patterns
