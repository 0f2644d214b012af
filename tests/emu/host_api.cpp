// host_api.cpp: the functions of the CUDA runtime that the project calls from the host. There is one device, number 0,
// unless a test wants more. Everything is done when the call returns, so streams order nothing.
#include <cuda.h>

#include <cstring>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "emu/checker.h"

namespace {

std::mutex kernels;                                     // guards the two tables of kernels, and emu::host.calls
std::unordered_map<const void*, std::size_t> opted_in;  // kernel -> dynamic shared bytes
std::unordered_set<const void*> loaded;
std::unordered_map<void*, std::size_t> allocations;
cudaError_t last_error = cudaSuccess;
thread_local int device_in_use = 0;
bool is_set_up = false;  // the device, by the first call that needs it
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

// Counts a call. Returns false if it must fail.
bool begin_call(const char* function) {
  emu::host.calls[function] += 1;
  if (emu::host.next_failure != function) return true;
  emu::host.next_failure.clear();
  return false;
}

bool allows_what_is_unsafe() { return !emu::host.capturing || capture_mode == cudaStreamCaptureModeRelaxed; }

// Setting up a device loads all code if CUDA_MODULE_LOADING=EAGER: it must not come within a capture.
bool set_up() { return is_set_up = is_set_up || allows_what_is_unsafe(); }

// Loads a kernel lazily, as CUDA does: when it is first needed, which must not be within a capture.
bool load(const void* function) {
  if (!set_up()) return false;
  if (loaded.count(function) > 0) return true;
  if (!allows_what_is_unsafe()) return false;
  loaded.insert(function);
  return true;
}

void fill(void* memory, int value, size_t bytes, cudaStream_t stream) {
  emu::order_begin_work(stream, false);
  emu::order_host_access(memory, bytes, true, "cudaMemset");
  emu::order_end_work();
  std::memset(memory, value, bytes);
}

CUresult exchange_by_driver(CUstreamCaptureMode* mode) {
  const CUstreamCaptureMode former = static_cast<CUstreamCaptureMode>(capture_mode);
  capture_mode = static_cast<cudaStreamCaptureMode>(*mode);
  *mode = former;
  return CUDA_SUCCESS;
}

}  // namespace

namespace emu {

Host host;

int current_device() { return device_in_use; }

std::size_t dynamic_shared_opt_in(const void* function) {
  const std::lock_guard<std::mutex> lock(kernels);
  const auto found = opted_in.find(function);
  return found == opted_in.end() ? 0 : found->second;
}

cudaError_t begin_launch(const void* function) {
  const std::lock_guard<std::mutex> lock(kernels);
  begin_call(("launch on device " + std::to_string(device_in_use)).c_str());
  return load(function) ? cudaSuccess : remember_error(cudaErrorStreamCaptureUnsupported);
}

cudaError_t remember_error(cudaError_t status) {
  last_error = status;
  return status;
}

}  // namespace emu

extern "C" {

// ---- memory --------------------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = emu::allocate(bytes, 256, emu::Memory::kGlobal);
  if (*memory == nullptr) return emu::remember_error(cudaErrorMemoryAllocation);
  allocations[*memory] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (!set_up()) return emu::remember_error(cudaErrorStreamCaptureUnsupported);
  if (memory == nullptr) return cudaSuccess;
  const auto found = allocations.find(memory);
  if (found == allocations.end()) return emu::remember_error(cudaErrorInvalidValue);
  emu::order_host_waits_for_all();
  emu::release(memory, found->second, emu::Memory::kGlobal);
  allocations.erase(found);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  emu::order_begin_work(stream, false);
  emu::order_host_access(from, bytes, false, "cudaMemcpy");
  emu::order_host_access(to, bytes, true, "cudaMemcpy");
  emu::order_end_work();
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

// A copy to a device may return before the data has arrived: it may have reached no more than a buffer of CUDA's.
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  if (!to_device) emu::order_host_waits(cudaStream_t(nullptr));
  return cudaSuccess;
}

cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  fill(memory, value, bytes, nullptr);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  const std::lock_guard<std::mutex> lock(kernels);
  if (!begin_call(__func__)) return emu::remember_error(cudaErrorInvalidValue);
  if (!set_up()) return emu::remember_error(cudaErrorStreamCaptureUnsupported);
  fill(memory, value, bytes, stream);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  *attributes = {};
  const auto found = emu::host.device_of_memory.find(memory);
  if (found == emu::host.device_of_memory.end()) return cudaSuccess;  // of cudaMemoryTypeUnregistered
  attributes->type = cudaMemoryTypeDevice;
  attributes->device = found->second;
  return cudaSuccess;
}

// ---- errors and synchronization ------------------------------------------------------------------------------------

cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard<std::mutex> lock(kernels);
  if (!begin_call(__func__)) return emu::remember_error(cudaErrorLaunchFailure);
  if (!allows_what_is_unsafe()) return emu::remember_error(cudaErrorStreamCaptureUnsupported);
  emu::order_host_waits(stream);
  return last_error;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const bool captured = emu::host.capturing && emu::host.captured == stream;
  *status = captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  if (!set_up()) return emu::remember_error(cudaErrorStreamCaptureUnsupported);
  std::swap(*mode, capture_mode);
  return cudaSuccess;
}

#if CUDART_VERSION >= 12050
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
#else
cudaError_t cudaGetDriverEntryPoint(const char* name, void** function, unsigned long long,
                                    cudaDriverEntryPointQueryResult* found) {
#endif
  const std::lock_guard<std::mutex> lock(kernels);
  if (!begin_call(__func__)) return emu::remember_error(cudaErrorInvalidValue);
  const bool known = std::strcmp(name, "cuThreadExchangeStreamCaptureMode") == 0;
  *function = known ? reinterpret_cast<void*>(exchange_by_driver) : nullptr;
  *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  emu::order_host_waits_for_all();
  return last_error;
}

// ---- devices and kernels -------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  *count = emu::host.devices;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = device_in_use;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= emu::host.devices) return emu::remember_error(cudaErrorInvalidDevice);
  device_in_use = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = static_cast<int>(emu::options.multiprocessors);
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = emu::kWarpSize;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = emu::kSharedBytesWithoutOptIn;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = emu::kSharedBytesLimit;
      return cudaSuccess;
    case cudaDevAttrPageableMemoryAccess:
      *value = emu::host.reads_host_memory;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = emu::host.architecture / 10;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = emu::host.architecture % 10;
      return cudaSuccess;
    default:
      return emu::remember_error(cudaErrorInvalidValue);
  }
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return emu::remember_error(cudaErrorInvalidDevice);
  std::memset(properties, 0, sizeof *properties);
  std::strcpy(properties->name, "CUDA on the CPU");
  properties->multiProcessorCount = static_cast<int>(emu::options.multiprocessors);
  properties->warpSize = emu::kWarpSize;
  properties->maxThreadsPerBlock = 1024;
  properties->sharedMemPerBlock = emu::kSharedBytesWithoutOptIn;
  properties->sharedMemPerBlockOptin = emu::kSharedBytesLimit;
  properties->major = emu::host.architecture / 10;
  properties->minor = emu::host.architecture % 10;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  const std::lock_guard<std::mutex> lock(kernels);
  if (!begin_call(__func__)) return emu::remember_error(cudaErrorInvalidValue);
  if (!load(function)) return emu::remember_error(cudaErrorStreamCaptureUnsupported);
  *attributes = {};  // the static shared memory, which only the compiler knows, counts where it is taken
  attributes->maxThreadsPerBlock = 1024;
  attributes->ptxVersion = emu::host.architecture;
  attributes->binaryVersion = emu::host.architecture;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads,
                                                          size_t dynamic_shared_bytes) {
  const std::lock_guard<std::mutex> lock(kernels);
  if (!load(function)) return emu::remember_error(cudaErrorStreamCaptureUnsupported);
  *blocks = static_cast<int>(emu::blocks_of_multiprocessor(static_cast<unsigned>(threads), dynamic_shared_bytes));
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const std::lock_guard<std::mutex> lock(kernels);
  if (!begin_call(__func__)) return emu::remember_error(cudaErrorInvalidValue);
  if (!load(function)) return emu::remember_error(cudaErrorStreamCaptureUnsupported);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return emu::remember_error(cudaErrorInvalidValue);
  if (value < 0 || static_cast<std::size_t>(value) > emu::kSharedBytesLimit) {
    return emu::remember_error(cudaErrorInvalidValue);
  }
  opted_in[function] = static_cast<std::size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaFuncGetName(const char** name, const void* function) {
  static std::string text;
  text = emu::function_name(function);
  *name = text.c_str();
  return cudaSuccess;
}

}  // extern "C"
