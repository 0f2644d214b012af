// count_trace.h: what each thread did since its warp last met, and the merging of the lanes' records into requests.
#pragma once

#include <cstdint>
#include <vector>

#include "emu/counts.h"
#include "emu/scheduler.h"

namespace emu {

// A number for the calls that led to a function, equal for equal calls. 0: the kernel itself.
using Path = uint32_t;

struct Event {
  const char* code;     // the return address of the hook
  const char* address;  // nullptr: a basic block was entered
  Path path;
  uint8_t bytes;
  Space space;
  Use use;
};

struct ThreadTrace {
  Path path = 0;
  std::vector<Event> events;
};

// What the lanes did together.
struct Request {
  Event first;
  unsigned lanes = 0;  // as a mask
  const char* addresses[kWarpSize];
};

Path path_into(Path caller, const void* call_site);
Path path_out_of(Path path);

// Calls work(request) for each request, in order, and leaves the traces empty. traces: of the lanes that met, by lane.
template <class Work>
void merge(ThreadTrace* const* traces, unsigned lanes, const Work& work);

// Joins accesses to four elements side by side into one access of 16 bytes, or two, if the first is at a multiple of 16
// bytes in every lane, as in a struct of this alignment.
void join_elements(ThreadTrace* const* traces, unsigned lanes);

bool goes_before(const Event& a, const Event& b);

template <class Work>
void merge(ThreadTrace* const* traces, unsigned lanes, const Work& work) {
  std::size_t next[kWarpSize] = {};
  join_elements(traces, lanes);
  Request request;
  for (;;) {
    const Event* first = nullptr;
    request.lanes = 0;
    for (unsigned lane = 0; lane < kWarpSize; ++lane) {
      if ((lanes >> lane & 1) == 0 || next[lane] == traces[lane]->events.size()) continue;
      const Event& event = traces[lane]->events[next[lane]];
      const bool together = first != nullptr && event.code == first->code && event.path == first->path;
      if (!together && first != nullptr && !goes_before(event, *first)) continue;
      if (!together) request.lanes = 0;
      if (!together) first = &event;
      request.lanes |= 1u << lane;
      request.addresses[lane] = event.address;
    }
    if (first == nullptr) break;
    for (unsigned lane = 0; lane < kWarpSize; ++lane) next[lane] += request.lanes >> lane & 1;
    if (first->address == nullptr) continue;
    request.first = *first;
    work(request);
  }
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (lanes >> lane & 1) traces[lane]->events.clear();
  }
}

}  // namespace emu
