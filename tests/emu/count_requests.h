// count_requests.h: adds up the cost of a launch's requests.
#pragma once

#include "emu/count_trace.h"
#include "emu/counts.h"

namespace emu {

void begin_launch();
LaunchCounts& last_launch();
void count(const Request& request);
void count_memset(std::size_t bytes);

}  // namespace emu
