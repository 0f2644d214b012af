// count_requests.h: adds up what the requests of a launch cost.
#pragma once

#include "emu/count_trace.h"
#include "emu/counts.h"

namespace emu {

LaunchCounts& launch_in_progress();
void count(const Request& request);
void count_memset(std::size_t bytes);

}  // namespace emu
