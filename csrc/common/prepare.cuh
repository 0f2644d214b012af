// prepare.cuh: what must happen once for each kernel on each device before its first launch there, whichever thread makes
// it and even while a stream is being captured.
//
// The kernel is loaded, and its limit of dynamic shared memory is raised to all that the device has besides the
// kernel's static part. A limit that followed each launch's need could be lowered by another thread between setting and
// launching. Threads that come first together each do all of it, to the same effect. Nothing is remembered of an attempt
// that failed.
#pragma once

#include "common/stream.h"

namespace ssd {

// The stream's device, or the current one for a stream that names none, must be current. Throws if CUDA refuses.
void prepare_kernel(const void* kernel, Stream stream);

// The same for what needs no kernel of ours: sets up the runtime's state on the device.
void prepare_device(Stream stream);

// Allows this thread what capturing in the global mode forbids, until the end of the scope: loading code, setting up a
// device, and waiting for a stream that is not captured. These leave no trace in the graph that is captured.
class RelaxedCapture {
 public:
  RelaxedCapture();
  ~RelaxedCapture();
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;  // then that which the thread had
  const bool relaxed_;  // if not, the call for whose sake it should be fails where there is a capture
};

}  // namespace ssd
