// The table of what has been prepared. Entries are added and never removed. Threads take no lock: CUDA may wait
// for the device before it loads a kernel, and a lock held meanwhile could block a thread that the device waits for.
#include <cudaTypedefs.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "common/cuda.cuh"

namespace ssd {
namespace {

struct Entry {
  const void* kernel;  // nullptr: the device itself
  int device;
  int architecture;  // of the kernel's code there: __CUDA_ARCH__ / 10
  const Entry* next;
};

constexpr size_t kBuckets = 256;  // a few times the number of kernels
std::array<std::atomic<const Entry*>, kBuckets> buckets{};

std::atomic<const Entry*>& bucket_of(const void* kernel, int device) {
  const auto key = (reinterpret_cast<uintptr_t>(kernel) >> 4) + static_cast<uintptr_t>(device);
  return buckets[key * 0x9e3779b97f4a7c15ull >> 56];
}

// Returns nullptr if the kernel is not prepared there.
const Entry* find(const void* kernel, int device) {
  const Entry* entry = bucket_of(kernel, device).load(std::memory_order_acquire);
  while (entry != nullptr && (entry->kernel != kernel || entry->device != device)) entry = entry->next;
  return entry;
}

int device_of(Stream stream) {
  if (stream.device >= 0) return stream.device;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

cudaError_t load(const void* kernel, int device, int& architecture) {
  cudaFuncAttributes attributes{};
  int most = 0;
  cudaError_t status = cudaFuncGetAttributes(&attributes, kernel);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  }
  if (status != cudaSuccess) return status;
  architecture = attributes.ptxVersion;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              most - static_cast<int>(attributes.sharedSizeBytes));
}

// The driver's own function, or nullptr if there is none. The runtime's sets up the device before it exchanges modes,
// which loads all code if CUDA_MODULE_LOADING=EAGER: too early, since the mode must be relaxed for that.
PFN_cuThreadExchangeStreamCaptureMode_v10010 find_exchange() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const char* name = "cuThreadExchangeStreamCaptureMode";
#if CUDART_VERSION >= 12050
  const cudaError_t status = cudaGetDriverEntryPointByVersion(name, &function, 10010, cudaEnableDefault, &found);
#else
  const cudaError_t status = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
  const bool usable = status == cudaSuccess && found == cudaDriverEntryPointSuccess;
  return usable ? reinterpret_cast<PFN_cuThreadExchangeStreamCaptureMode_v10010>(function) : nullptr;
}

// Gives the thread the mode, and `mode` the thread's former one. Returns whether that succeeded.
bool exchange(cudaStreamCaptureMode& mode) {
  static const PFN_cuThreadExchangeStreamCaptureMode_v10010 by_driver = find_exchange();
  if (by_driver == nullptr) return cudaThreadExchangeStreamCaptureMode(&mode) == cudaSuccess;
  auto value = static_cast<CUstreamCaptureMode>(mode);  // the same numbers
  const bool done = by_driver(&value) == CUDA_SUCCESS;
  mode = static_cast<cudaStreamCaptureMode>(value);
  return done;
}

template <class Work, class Name>
int prepare(const void* kernel, Stream stream, Work work, Name name) {
  const int device = device_of(stream);
  if (const Entry* entry = find(kernel, device)) return entry->architecture;
  const RelaxedCapture relaxed;
  int architecture = 0;
  if (const cudaError_t status = work(device, architecture); status != cudaSuccess) check(status, name().c_str());
  std::atomic<const Entry*>& bucket = bucket_of(kernel, device);
  auto* entry = new Entry{kernel, device, architecture, bucket.load(std::memory_order_relaxed)};
  while (!bucket.compare_exchange_strong(entry->next, entry, std::memory_order_release, std::memory_order_relaxed)) {
  }
  return architecture;
}

}  // namespace

RelaxedCapture::RelaxedCapture() : relaxed_(exchange(mode_)) {}

RelaxedCapture::~RelaxedCapture() {
  if (relaxed_) exchange(mode_);
}

int prepare_kernel(const void* kernel, Stream stream) {
  const auto work = [&](int device, int& architecture) { return load(kernel, device, architecture); };
  return prepare(kernel, stream, work, [&] { return kernel_name(kernel); });
}

void prepare_device(Stream stream) {
  prepare(nullptr, stream, [](int, int&) { return cudaFree(nullptr); }, [] { return std::string("cudaFree"); });
}

}  // namespace ssd
