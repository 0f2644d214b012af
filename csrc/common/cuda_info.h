// What the CUDA runtime says of the machine and of memory.
#pragma once

#include <string>

namespace ssd {

#if defined(SSD_WITH_CUDA) || defined(SSD_EMULATED) || defined(__CUDACC__)

// Versions as CUDA has them: 13000 is 13.0.
struct CudaFacts {
  int gpus = 0;
  std::string error;    // such as "cudaErrorInsufficientDriver", where they cannot be counted
  std::string message;  // CUDA's own, of that error
  int driver = 0;       // the newest CUDA that the driver supports; 0: there is no driver
};
CudaFacts cuda_facts();

// The index of the GPU that the memory belongs to; `otherwise`, where it belongs to none but that one could read it
// (managed or pinned memory, or all of the host's), or where CUDA cannot be asked; -1 where it could not.
int device_of_memory(const void* memory, int otherwise);

#else

inline int device_of_memory(const void*, int otherwise) { return otherwise; }

#endif

}  // namespace ssd
