#include "common/cuda.cuh"
#include "common/cuda_info.h"

namespace ssd {

CudaFacts cuda_facts() {
  CudaFacts facts;
  if (const cudaError_t status = cudaGetDeviceCount(&facts.gpus); status != cudaSuccess) {
    facts.gpus = 0;
    facts.error = cudaGetErrorName(status);
    facts.message = cudaGetErrorString(status);
  }
  if (cudaDriverGetVersion(&facts.driver) != cudaSuccess) facts.driver = 0;
  cudaGetLastError();  // clear the error, so that the next CUDA call does not report it
  return facts;
}

int device_of_memory(const void* memory, int otherwise) {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, memory) != cudaSuccess) {
    cudaGetLastError();
    return otherwise;
  }
  if (attributes.type == cudaMemoryTypeDevice) return attributes.device;
  if (attributes.type != cudaMemoryTypeUnregistered) return otherwise;
  int reads_host_memory = 0;
  cudaDeviceGetAttribute(&reads_host_memory, cudaDevAttrPageableMemoryAccess, otherwise);
  return reads_host_memory != 0 ? otherwise : -1;
}

}  // namespace ssd
