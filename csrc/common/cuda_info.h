// Whether there is a GPU to run on.
#pragma once

#include <string>
#include <utility>

namespace ssd {

// (how many GPUs there are, why none can be used)
std::pair<int, std::string> cuda_device_count();

}  // namespace ssd
