// What the CUDA runtime says about the machine and about memory.
#pragma once

#include <string>

namespace ssd {

#if defined(SSD_WITH_CUDA) || defined(SSD_EMULATED) || defined(__CUDACC__)

// Versions are CUDA's numbers: 13000 is 13.0.
struct CudaFacts {
  int gpus = 0;
  std::string error;    // such as "cudaErrorInsufficientDriver", if the GPUs cannot be counted
  std::string message;  // CUDA's message for that error
  int driver = 0;       // the newest CUDA that the driver supports; 0 without a driver
};
CudaFacts cuda_facts();

// The index of the GPU that the memory belongs to. For memory that belongs to none, `otherwise` if that GPU can read it
// (managed or pinned memory, or any host memory where the hardware allows it), else -1. `otherwise` too if CUDA fails.
int device_of_memory(const void* memory, int otherwise);

#else

inline int device_of_memory(const void*, int otherwise) { return otherwise; }

#endif

}  // namespace ssd
