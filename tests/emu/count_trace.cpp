// count_trace.cpp: the order in which a GPU would run what its lanes did separately.
#include "emu/count_trace.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace emu {
namespace {

struct Call {
  Path caller;
  const char* site;
};

std::vector<Call> calls(1);  // by path
std::map<std::pair<Path, const void*>, Path> paths;

// The places in the code where the thread was, beginning with the kernel's own.
std::vector<const char*> places(const Event& event) {
  std::vector<const char*> found{event.code};
  for (Path path = event.path; path != 0; path = calls[path].caller) found.push_back(calls[path].site);
  std::reverse(found.begin(), found.end());
  return found;
}

constexpr std::size_t kLookAhead = 48;  // events in which the other elements of a struct are looked for

// The indices of the accesses to the three elements after this one, on the thread's way forward through the code.
bool find_others(const std::vector<Event>& events, std::size_t i, std::size_t (&others)[3]) {
  const Event& first = events[i];
  const std::size_t end = std::min(events.size(), i + 1 + kLookAhead);
  const char* last = first.code;
  int found = 0;
  for (std::size_t j = i + 1; j < end && found < 3; ++j) {
    const Event& event = events[j];
    if (event.path == first.path && event.code <= last) return false;  // the next round of a loop
    if (event.path == first.path) last = event.code;
    if (event.address == nullptr || event.use != first.use || event.bytes != first.bytes) continue;
    const auto distance = event.address - first.address;
    if (distance <= 0 || distance > 3 * first.bytes || distance % first.bytes != 0) continue;
    std::size_t& other = others[distance / first.bytes - 1];
    if (other != 0) continue;
    other = j;
    found += 1;
  }
  return found == 3;
}

bool is_multiple_of_16(const Event& event) { return reinterpret_cast<std::uintptr_t>(event.address) % 16 == 0; }

// Whether this code accesses only multiples of 16 bytes. Decided when it is first seen, by all lanes of that warp.
bool is_of_struct(const char* code, ThreadTrace* const* traces, unsigned lanes) {
  static std::unordered_map<const char*, bool> known;
  const auto [found, is_new] = known.insert({code, true});
  if (!is_new) return found->second;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if ((lanes >> lane & 1) == 0) continue;
    for (const Event& event : traces[lane]->events) {
      if (event.code == code && event.address != nullptr && !is_multiple_of_16(event)) found->second = false;
    }
  }
  return found->second;
}

void join(ThreadTrace* const* traces, unsigned lanes, std::vector<Event>& events) {
  std::size_t kept = 0;
  std::vector<bool> joined;
  for (std::size_t i = 0; i < events.size(); ++i) {
    if (!joined.empty() && joined[i]) continue;
    Event event = events[i];
    std::size_t others[3] = {};
    const bool is_element = event.address != nullptr && event.use != Use::kAtomic && is_multiple_of_16(event) &&
                            (event.bytes == 4 || event.bytes == 8);
    if (is_element && find_others(events, i, others) && is_of_struct(event.code, traces, lanes)) {
      if (joined.empty()) joined.resize(events.size());
      for (const std::size_t other : others) joined[other] = true;
      if (event.bytes == 8) {  // of four doubles the third becomes the second half
        joined[others[1]] = false;
        events[others[1]].bytes = 16;
      }
      event.bytes = 16;
    }
    events[kept++] = event;
  }
  events.resize(kept);
}

}  // namespace

Path path_into(Path caller, const void* call_site) {
  const auto [found, is_new] = paths.insert({{caller, call_site}, static_cast<Path>(calls.size())});
  if (is_new) calls.push_back({caller, static_cast<const char*>(call_site)});
  return found->second;
}

Path path_out_of(Path path) { return calls[path].caller; }

bool goes_before(const Event& a, const Event& b) {
  if (a.path == b.path) return a.code < b.code;
  return places(a) < places(b);
}

void join_elements(ThreadTrace* const* traces, unsigned lanes) {
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (lanes >> lane & 1) join(traces, lanes, traces[lane]->events);
  }
}

}  // namespace emu
