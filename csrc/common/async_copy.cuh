// async_copy.cuh: copies from global to shared memory that run beside the thread that started them. CUDA's own
// functions; kernels that need them include this besides cuda.cuh.
//
//   __pipeline_memcpy_async(shared, global, bytes)  starts a copy of 4, 8 or 16 bytes, which both addresses are
//                                                   multiples of; a fourth argument is how many of them, the last,
//                                                   become zero
//   __pipeline_commit()                             makes a batch of the copies that the thread has started since the
//                                                   last
//   __pipeline_wait_prior(n)                        waits for all of the thread's batches but its latest n
//
// Until its thread has waited for it, a copy may happen at any moment: its destination must be neither read nor
// written, its source not written. Other threads need a barrier after that. GPUs below 8.0 copy at once, by CUDA's own
// fallback.
#pragma once

#include "common/cuda.cuh"

#ifdef __CUDACC__
#include <cuda_pipeline_primitives.h>
#else
#include "emu/device_copies.h"
#endif
