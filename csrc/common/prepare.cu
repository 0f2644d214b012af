// The table of what has been prepared. Entries are added under a lock and never removed; lookups take no lock.
#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "common/cuda.cuh"

namespace ssd {
namespace {

struct Entry {
  const void* kernel;  // nullptr: the device itself
  int device;
  const Entry* next;
};

constexpr size_t kBuckets = 256;  // a few times the number of kernels
std::array<std::atomic<const Entry*>, kBuckets> buckets{};
std::mutex preparing;

std::atomic<const Entry*>& bucket_of(const void* kernel, int device) {
  const auto key = (reinterpret_cast<uintptr_t>(kernel) >> 4) + static_cast<uintptr_t>(device);
  return buckets[key * 0x9e3779b97f4a7c15ull >> 56];
}

bool is_prepared(const void* kernel, int device) {
  const Entry* entry = bucket_of(kernel, device).load(std::memory_order_acquire);
  while (entry != nullptr && (entry->kernel != kernel || entry->device != device)) entry = entry->next;
  return entry != nullptr;
}

int device_of(Stream stream) {
  if (stream.device >= 0) return stream.device;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

cudaError_t load(const void* kernel, int device) {
  cudaFuncAttributes attributes{};
  int most = 0;
  cudaError_t status = cudaFuncGetAttributes(&attributes, kernel);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  }
  if (status != cudaSuccess) return status;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              most - static_cast<int>(attributes.sharedSizeBytes));
}

template <class Work, class Name>
void once(const void* kernel, Stream stream, Work work, Name name) {
  const int device = device_of(stream);
  if (is_prepared(kernel, device)) return;
  const std::lock_guard<std::mutex> lock(preparing);
  if (is_prepared(kernel, device)) return;
  const RelaxedCapture relaxed;
  if (const cudaError_t status = work(device); status != cudaSuccess) check(status, name().c_str());
  std::atomic<const Entry*>& bucket = bucket_of(kernel, device);
  bucket.store(new Entry{kernel, device, bucket.load(std::memory_order_relaxed)}, std::memory_order_release);
}

}  // namespace

void prepare_kernel(const void* kernel, Stream stream) {
  once(kernel, stream, [&](int device) { return load(kernel, device); }, [&] { return kernel_name(kernel); });
}

void prepare_device(Stream stream) {
  once(nullptr, stream, [](int) { return cudaFree(nullptr); }, [] { return std::string("cudaFree"); });
}

}  // namespace ssd
