// The parts of launch.cuh that do not depend on the kernel.
#include <cxxabi.h>

#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "common/cuda.cuh"

namespace ssd {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::string message = std::string("ssd_fast: ") + what + ": " + cudaGetErrorString(status);
  if (status == cudaErrorInsufficientDriver) message += " (ssd_fast.cuda_status() says more and what to do)";
  cudaGetLastError();  // clear the error, which is reported here and not by the caller's next CUDA call
  throw std::runtime_error(message);
}

std::string kernel_name(const void* kernel) {
#if CUDART_VERSION >= 12030
  const char* mangled = nullptr;
  if (cudaFuncGetName(&mangled, kernel) == cudaSuccess && mangled != nullptr) {
    char* readable = abi::__cxa_demangle(mangled, nullptr, nullptr, nullptr);
    const std::string name = readable != nullptr ? readable : mangled;
    std::free(readable);
    return name;
  }
#endif
  (void)kernel;
  return "kernel";
}

bool waits_for_launches() {
  static const bool waits = [] {
    const char* value = std::getenv("SSD_FAST_SYNC");
    return value != nullptr && std::string_view(value) == "1";
  }();
  return waits;
}

void wait_for(Stream stream, const char* what) {
  const cudaStream_t handle = static_cast<cudaStream_t>(stream.handle);
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(handle, &capture), what);
  if (capture != cudaStreamCaptureStatusNone) return;
  const RelaxedCapture relaxed;  // another stream may be being captured
  check(cudaStreamSynchronize(handle), what);
}

#ifdef __CUDACC__
AttributeList attribute_list(LaunchAttributes wanted, int architecture) {
  AttributeList list{};
  if (wanted.cooperative) {
    cudaLaunchAttribute& attribute = list.attributes[list.count++];
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
  }
  if (wanted.programmatic && architecture >= 90) {
    cudaLaunchAttribute& attribute = list.attributes[list.count++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  if (wanted.cluster_size > 1) {
    cudaLaunchAttribute& attribute = list.attributes[list.count++];
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = wanted.cluster_size;
    attribute.val.clusterDim.y = 1;
    attribute.val.clusterDim.z = 1;
  }
  return list;
}
#endif

unsigned most_cooperative_blocks(const void* kernel, unsigned threads, size_t shared_bytes, Stream stream) {
  prepare_kernel(kernel, stream);
  int device = stream.device;
  if (device < 0) check(cudaGetDevice(&device), "cudaGetDevice");
  int multiprocessors = 0;
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, static_cast<int>(threads), shared_bytes),
        kernel_name(kernel).c_str());
  return static_cast<unsigned>(blocks) * static_cast<unsigned>(multiprocessors);
}

bool has_clusters(const void* kernel, Stream stream) { return prepare_kernel(kernel, stream) >= 90; }

DeviceGuard::DeviceGuard(Stream stream) {
  if (stream.device < 0) return;
  int current = 0;
  check(cudaGetDevice(&current), "cudaGetDevice");
  if (current == stream.device) return;
  const RelaxedCapture relaxed;  // the first use of a device sets up its context
  check(cudaSetDevice(stream.device), "cudaSetDevice");
  former_ = current;
}

DeviceGuard::~DeviceGuard() {
  if (former_ < 0) return;
  const RelaxedCapture relaxed;
  cudaSetDevice(former_);
}

void zero_async(void* data, size_t bytes, Stream stream) {
  if (bytes == 0) return;
  prepare_device(stream);
  check(cudaMemsetAsync(data, 0, bytes, static_cast<cudaStream_t>(stream.handle)), "cudaMemsetAsync");
  if (waits_for_launches()) wait_for(stream, "cudaMemsetAsync");
}

}  // namespace ssd
