// async_copy.cuh: copies from global to shared memory that run beside the thread that started them. The functions are
// CUDA's own; kernels that need them include this header besides cuda.cuh.
//
//   __pipeline_memcpy_async(shared, global, bytes)  starts a copy of 4, 8 or 16 bytes; both addresses are multiples of
//                                                   that size. A fourth argument says how many of the last bytes
//                                                   become zero instead
//   __pipeline_commit()                             makes one batch of the copies that the thread has started since
//                                                   its last commit
//   __pipeline_wait_prior(n)                        waits for all of the thread's batches but its latest n
//
// Until its thread has waited for it, a copy may happen at any moment: its destination must be neither read nor
// written, and its source not written. After the wait, other threads still need a barrier. GPUs below 8.0 copy at
// once, by CUDA's own fallback.
#pragma once

#include "common/cuda.cuh"

#ifdef __CUDACC__
#include <cuda_pipeline_primitives.h>
#else
#include "emu/device_copies.h"
#endif
