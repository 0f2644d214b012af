// count_requests.cpp: adds up the cost of requests, by launch and by line of code.
#include "emu/count_requests.h"

#include <algorithm>
#include <unordered_map>

namespace emu {
namespace {

constexpr std::size_t kSectorBytes = 32;
constexpr unsigned kBanks = 32;
constexpr std::size_t kBankBytes = 4;

Counts all;

struct Touched {
  uint32_t read = 0, written = 0;  // a bit for each byte of a sector
};
std::unordered_map<std::uintptr_t, Touched> touched;  // by sector, in the last launch

std::uintptr_t number(const char* address) { return reinterpret_cast<std::uintptr_t>(address); }

// Calls work(lane) for each lane of the request.
template <class Work>
void for_each_lane(const Request& request, const Work& work) {
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (request.lanes >> lane & 1) work(lane);
  }
}

template <class T>
std::size_t distinct(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  return static_cast<std::size_t>(std::unique(values.begin(), values.end()) - values.begin());
}

void touch(LaunchCounts& launch, std::uintptr_t address, std::size_t bytes, Use use) {
  while (bytes > 0) {
    const std::size_t offset = address % kSectorBytes;
    const std::size_t count = std::min(bytes, kSectorBytes - offset);
    const uint32_t mask = static_cast<uint32_t>(((uint64_t(1) << count) - 1) << offset);
    Touched& sector = touched[address / kSectorBytes];
    if (use != Use::kStore) {
      launch.bytes_read += __builtin_popcount(mask & ~sector.read);
      sector.read |= mask;
    }
    if (use != Use::kLoad) {
      launch.bytes_written += __builtin_popcount(mask & ~sector.written);
      sector.written |= mask;
    }
    address += count;
    bytes -= count;
  }
}

void count_sectors(LaunchCounts& launch, SiteCounts& site, const Request& request) {
  static std::vector<std::uintptr_t> sectors, starts;
  sectors.clear();
  starts.clear();
  const std::size_t bytes = request.first.bytes;
  for_each_lane(request, [&](unsigned lane) {
    const std::uintptr_t address = number(request.addresses[lane]);
    starts.push_back(address);
    for (std::uintptr_t s = address / kSectorBytes; s <= (address + bytes - 1) / kSectorBytes; ++s)
      sectors.push_back(s);
    touch(launch, address, bytes, request.first.use);
  });
  site.sectors += distinct(sectors);
  site.least += (distinct(starts) * bytes + kSectorBytes - 1) / kSectorBytes;
}

// A pass over the banks serves one word per bank, to all lanes that want it. Lanes that access 8 or 16 bytes go in
// groups of 16 or 8 lanes, whose words fill the banks once.
void count_wavefronts(SiteCounts& site, const Request& request) {
  const std::size_t bytes = std::max<std::size_t>(request.first.bytes, kBankBytes);
  const unsigned group_lanes = static_cast<unsigned>(kBanks * kBankBytes / bytes);
  for (unsigned begin = 0; begin < kWarpSize; begin += group_lanes) {
    std::vector<std::uintptr_t> words;
    for (unsigned lane = begin; lane < begin + group_lanes; ++lane) {
      if ((request.lanes >> lane & 1) == 0) continue;
      const std::uintptr_t word = number(request.addresses[lane]) / kBankBytes;
      for (std::uintptr_t i = 0; i < bytes / kBankBytes; ++i) words.push_back(word + i);
    }
    if (words.empty()) continue;
    words.resize(distinct(words));
    unsigned in_bank[kBanks] = {};
    unsigned most = 0;
    for (const std::uintptr_t word : words) most = std::max(most, ++in_bank[word % kBanks]);
    site.wavefronts += most;
    site.conflicts += most - 1;
  }
}

std::size_t contended_lanes(const Request& request) {
  std::vector<std::uintptr_t> addresses;
  for_each_lane(request, [&](unsigned lane) { addresses.push_back(number(request.addresses[lane])); });
  const std::size_t lanes = addresses.size();
  return lanes - distinct(addresses);
}

}  // namespace

LaunchCounts& last_launch() { return all.launches.back(); }

void begin_launch() {
  touched.clear();
  LaunchCounts& launch = all.launches.emplace_back();
  launch.kernel = function_name(running.kernel.function);
  launch.grid = {gridDim.x, gridDim.y, gridDim.z};
  launch.block = {blockDim.x, blockDim.y, blockDim.z};
  launch.dynamic_shared = running.dynamic_bytes;
}

void count(const Request& request) {
  LaunchCounts& launch = last_launch();
  const Event& event = request.first;
  SiteCounts& site = launch.sites[{event.code, {event.space, event.use}}];
  site.bytes = std::max<int>(site.bytes, event.bytes);
  site.requests += 1;
  site.lanes += static_cast<unsigned>(__builtin_popcount(request.lanes));
  if (event.use == Use::kAtomic) site.contended += contended_lanes(request);
  if (event.space == Space::kGlobal) {
    count_sectors(launch, site, request);
  } else {
    count_wavefronts(site, request);
  }
}

void start_counting() {
  all = Counts();
  touched.clear();
}

const Counts& counts() { return all; }

void count_memset(std::size_t bytes) { all.memsets.push_back(bytes); }

}  // namespace emu
