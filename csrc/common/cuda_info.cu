// Whether there is a GPU to run on, by the CUDA runtime.
#include "common/cuda.cuh"
#include "common/cuda_info.h"

namespace ssd {

std::pair<int, std::string> cuda_device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) return {count, count > 0 ? "" : "the machine has no GPU"};
  cudaGetLastError();  // leave nothing for the next CUDA call to find
  return {0, std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status)};
}

}  // namespace ssd
