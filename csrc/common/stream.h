// stream.h: where an op runs. Needs no CUDA header, so <family>_task.h and plain C++ can name it.
#pragma once

namespace ssd {

struct Stream {
  int device = -1;         // CUDA device index; -1 for host memory (the CPU, or the emulator in tests)
  void* handle = nullptr;  // the cudaStream_t current in the array's own library; nullptr is CUDA's default stream
};

}  // namespace ssd
