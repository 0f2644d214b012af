// count_trace.cpp: the order in which a GPU would run what lanes did apart.
#include "emu/count_trace.h"

#include <algorithm>
#include <map>

namespace emu {
namespace {

struct Call {
  Path caller;
  const char* site;
};

std::vector<Call> calls(1);  // by path
std::map<std::pair<Path, const void*>, Path> paths;

// The places in the code where the thread was, the kernel's own first.
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

void join_elements(std::vector<Event>& events) {
  std::size_t kept = 0;
  std::vector<bool> joined;
  for (std::size_t i = 0; i < events.size(); ++i) {
    if (!joined.empty() && joined[i]) continue;
    Event event = events[i];
    std::size_t others[3] = {};
    const bool may_join = event.address != nullptr && event.use != Use::kAtomic &&
                          (event.bytes == 4 || event.bytes == 8) &&
                          reinterpret_cast<std::uintptr_t>(event.address) % 16 == 0;
    if (may_join && find_others(events, i, others)) {
      if (joined.empty()) joined.resize(events.size());
      for (const std::size_t other : others) joined[other] = true;
      // Of four doubles the third's place becomes the second half's.
      if (event.bytes == 8) {
        joined[others[1]] = false;
        events[others[1]].bytes = 16;
      }
      event.bytes = 16;
    }
    events[kept++] = event;
  }
  events.resize(kept);
}

}  // namespace emu
