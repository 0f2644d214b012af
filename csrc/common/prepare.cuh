// prepare.cuh: what must happen once per kernel and device before the first launch there, in any thread and even while
// a stream is being captured.
//
// The kernel is loaded, and its limit of dynamic shared memory is raised to all that the device has besides the
// kernel's static part. If each launch set the limit that it needs, another thread could lower it before the launch.
// Threads that come first at the same time each do all of it, to the same effect. A failed attempt is not remembered.
#pragma once

#include "common/stream.h"

namespace ssd {

// The stream's device must be current; a stream without a device means the current one. Throws if CUDA fails. Returns
// the architecture that the kernel's code for the device was compiled for, 90 for sm_90: the device's own or an older
// one.
int prepare_kernel(const void* kernel, Stream stream);

// The same for work without a kernel, such as a memset: initializes the runtime on the device.
void prepare_device(Stream stream);

// Until the end of the scope, allows this thread what a capture in global mode forbids: loading code, initializing a
// device, and waiting for a stream that is not captured. None of these adds anything to the captured graph.
class RelaxedCapture {
 public:
  RelaxedCapture();
  ~RelaxedCapture();
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;  // after an exchange, the thread's former mode
  const bool relaxed_;  // if false, the call that needs it fails within a capture
};

}  // namespace ssd
