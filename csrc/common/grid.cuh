// grid.cuh: how the blocks of a grid, and grids that follow each other, wait for one another. Kernels that need it
// include it besides cuda.cuh; launch.cuh says how to launch them. The emulator's checker finds misuse
// (tests/emu/checker.h).
//
//   grid_barrier()          in a cooperative launch: waits for every thread of the grid; all accesses before it happen
//                           before all accesses after it. No thread may exit before it.
//   wait_for_predecessor()  in a programmatic launch: only after this may a kernel read what the stream's previous work
//                           wrote, or overwrite what it read. One thread may wait for its block, if a barrier follows.
//                           In other launches, and on GPUs below 9.0, there is nothing to wait for.
//   trigger_dependents()    lets the next kernel start, if it was launched as programmatic, once all blocks have called
//                           this or exited. It makes nothing visible to that kernel: only the end of this one does.
//   cluster_barrier()       the same as grid_barrier for the threads of a cluster, except that some may have exited
//   shared_of_block(p, r)   the address in block r of the cluster that corresponds to p in this block's shared memory.
//                           That block must have started, and must not have exited: a cluster_barrier stands before the
//                           first access and after the last. GPUs below 9.0 have no clusters: each block is its own.
//
// Memory that changes while a kernel runs - by its own blocks before a barrier, or by its predecessor - must not be
// read through __ldg or a pointer that is both const and __restrict__: the compiler assumes such memory to be constant,
// and reads it through a cache that is not coherent.
#pragma once

#include "common/cuda.cuh"

#ifdef __CUDACC__

#include <cooperative_groups.h>

namespace ssd {

inline __device__ void grid_barrier() { cooperative_groups::this_grid().sync(); }

#if __CUDA_ARCH__ >= 900

inline __device__ void wait_for_predecessor() { cudaGridDependencySynchronize(); }
inline __device__ void trigger_dependents() { cudaTriggerProgrammaticLaunchCompletion(); }

inline __device__ void cluster_barrier() { cooperative_groups::this_cluster().sync(); }
inline __device__ unsigned cluster_rank() { return cooperative_groups::this_cluster().block_rank(); }
inline __device__ unsigned cluster_size() { return cooperative_groups::this_cluster().num_blocks(); }

template <class T>
__device__ T* shared_of_block(T* mine, unsigned rank) {
  return cooperative_groups::this_cluster().map_shared_rank(mine, rank);
}

#else

inline __device__ void wait_for_predecessor() {}
inline __device__ void trigger_dependents() {}

inline __device__ void cluster_barrier() { cooperative_groups::this_thread_block().sync(); }
inline __device__ unsigned cluster_rank() { return 0; }
inline __device__ unsigned cluster_size() { return 1; }

template <class T>
__device__ T* shared_of_block(T* mine, unsigned) {
  return mine;
}

#endif

}  // namespace ssd

#else

#include "emu/device_grid.h"

namespace ssd {
using emu::cluster_barrier;
using emu::cluster_rank;
using emu::cluster_size;
using emu::grid_barrier;
using emu::shared_of_block;
using emu::trigger_dependents;
using emu::wait_for_predecessor;
}  // namespace ssd

#endif
