// count_requests.cpp: the count flavour's side of checker.h, and what a request costs.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <unordered_map>

#include "emu/checker.h"
#include "emu/count_trace.h"

extern "C" __attribute__((visibility("hidden"))) char __ehdr_start;  // of this program or library, by the linker
extern "C" __attribute__((visibility("hidden"))) char _end;

namespace emu {

// The traces of a block. When the block ends, so do they, and its last requests are counted.
struct BlockOrder {
  explicit BlockOrder(const Block& of)
      : block(of), traces(of.threads.size()), paths((of.threads.size() + kWarpSize - 1) / kWarpSize) {}
  ~BlockOrder();

  struct LongestPath {
    uint64_t loads = 0, shared = 0, atomics = 0;
  };

  const Block& block;
  std::vector<ThreadTrace> traces;
  std::vector<LongestPath> paths;  // by warp
  uint64_t barriers = 0;
};

namespace {

constexpr std::size_t kSectorBytes = 32;
constexpr unsigned kBanks = 32;
constexpr std::size_t kBankBytes = 4;
constexpr std::size_t kSharedArena = std::size_t(256) << 20;  // of address space

Counts all;
uint32_t serial_of_last;  // the launch that all.launches ends with

struct Touched {
  uint32_t read = 0, written = 0;  // a bit for each byte of a sector
};
std::unordered_map<std::uintptr_t, Touched> touched;  // by sector, in the last launch

char* shared_arena;
char* shared_unused;
std::map<std::size_t, std::vector<char*>> free_shared;  // by size

LaunchCounts& launch_in_progress() {
  if (serial_of_last == running.serial && !all.launches.empty()) return all.launches.back();
  touched.clear();
  serial_of_last = running.serial;
  LaunchCounts& launch = all.launches.emplace_back();
  launch.kernel = function_name(running.kernel.function);
  launch.grid = {gridDim.x, gridDim.y, gridDim.z};
  launch.block = {blockDim.x, blockDim.y, blockDim.z};
  launch.dynamic_shared = running.dynamic_bytes;
  return launch;
}

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

// A pass over the banks serves each bank's word once, for all lanes that want it. Lanes that access 8 or 16 bytes go in
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

void count(const Request& request, BlockOrder::LongestPath& path) {
  LaunchCounts& launch = launch_in_progress();
  const Event& event = request.first;
  SiteCounts& site = launch.sites[{event.code, {event.space, event.use}}];
  site.bytes = std::max<int>(site.bytes, event.bytes);
  site.requests += 1;
  site.lanes += static_cast<unsigned>(__builtin_popcount(request.lanes));
  if (event.space == Space::kGlobal) {
    count_sectors(launch, site, request);
  } else {
    count_wavefronts(site, request);
  }
  path.loads += event.space == Space::kGlobal && event.use == Use::kLoad;
  path.shared += event.space == Space::kShared;
  path.atomics += event.space == Space::kGlobal && event.use == Use::kAtomic;
}

void merge_warp(BlockOrder& order, unsigned warp, unsigned lanes) {
  ThreadTrace* traces[kWarpSize] = {};
  unsigned present = 0;
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    const std::size_t thread = std::size_t(warp) * kWarpSize + lane;
    if ((lanes >> lane & 1) == 0 || thread >= order.traces.size()) continue;
    traces[lane] = &order.traces[thread];
    present |= 1u << lane;
  }
  merge(traces, present, [&](const Request& request) { count(request, order.paths[warp]); });
}

void merge_block(BlockOrder& order) {
  for (unsigned warp = 0; warp < order.paths.size(); ++warp) merge_warp(order, warp, ~0u);
}

bool within(const char* byte, const char* begin, std::size_t bytes) { return byte >= begin && byte < begin + bytes; }

// A kernel's own stack, its arguments, and constants in the program.
bool is_private(const char* byte) {
  return within(byte, current->fiber.stack, kStackBytes) ||
         within(byte, static_cast<const char*>(running.kernel.arguments), running.kernel.argument_bytes) ||
         within(byte, &__ehdr_start, static_cast<std::size_t>(&_end - &__ehdr_start));
}

}  // namespace

BlockOrder::~BlockOrder() {
  merge_block(*this);
  LaunchCounts& launch = launch_in_progress();
  launch.barriers = std::max(launch.barriers, barriers);
  launch.static_shared = std::max(launch.static_shared, block.static_bytes);
  for (const LongestPath& path : paths) {
    launch.longest_loads = std::max(launch.longest_loads, path.loads);
    launch.longest_shared = std::max(launch.longest_shared, path.shared);
    launch.longest_atomics = std::max(launch.longest_atomics, path.atomics);
  }
}

void start_counting() {
  all = Counts();
  touched.clear();
}

const Counts& counts() { return all; }

void record(const void* address, std::size_t bytes, Use use, const void* code) {
  const char* byte = static_cast<const char*>(address);
  if (is_private(byte)) return;
  ThreadTrace& trace = current->block->order->traces[current->number];
  const Space space = within(byte, shared_arena, kSharedArena) ? Space::kShared : Space::kGlobal;
  trace.events.push_back({static_cast<const char*>(code), byte, trace.path, static_cast<uint8_t>(bytes), space, use});
}

void record_basic_block(const void* code) {
  ThreadTrace& trace = current->block->order->traces[current->number];
  trace.events.push_back({static_cast<const char*>(code), nullptr, trace.path, 0, Space::kGlobal, Use::kLoad});
}

void record_call(const void* call_site) {
  ThreadTrace& trace = current->block->order->traces[current->number];
  trace.path = path_into(trace.path, call_site);
}

void record_return() {
  ThreadTrace& trace = current->block->order->traces[current->number];
  trace.path = path_out_of(trace.path);
}

// ---- checker.h ------------------------------------------------------------------------------------------------------

void* allocate(std::size_t bytes, std::size_t alignment, Memory kind) {
  void* memory = nullptr;
  if (kind == Memory::kGlobal) {
    if (posix_memalign(&memory, alignment, std::max<std::size_t>(bytes, 1)) != 0) return nullptr;
  } else if (std::vector<char*>& reusable = free_shared[bytes]; !reusable.empty()) {
    memory = reusable.back();
    reusable.pop_back();
  } else {
    if (shared_arena == nullptr) {
      void* arena =
          mmap(nullptr, kSharedArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (arena == MAP_FAILED) throw std::bad_alloc();
      shared_arena = shared_unused = static_cast<char*>(arena);
    }
    memory = shared_unused;
    shared_unused += (bytes + 1023) / 1024 * 1024;
    if (shared_unused > shared_arena + kSharedArena) throw std::bad_alloc();
  }
  std::memset(memory, poison_byte(), bytes);
  return memory;
}

void release(void* memory, std::size_t bytes, Memory kind) {
  if (kind == Memory::kGlobal) {
    std::free(memory);
  } else {
    free_shared[bytes].push_back(static_cast<char*>(memory));
  }
}

void host_wrote(const void*, std::size_t bytes) { all.memsets.push_back(bytes); }  // ops copy nothing
void checker_restart() {}

void order_begin_block(Block& block) {
  launch_in_progress();
  block.order = std::make_shared<BlockOrder>(block);
}

void order_block_barrier(Block& block) {
  merge_block(*block.order);
  block.order->barriers += 1;
}

void order_warp(Block& block, unsigned warp, unsigned lanes) { merge_warp(*block.order, warp, lanes); }

void order_atomic(void* address, int bytes, void* caller) {
  record(address, static_cast<std::size_t>(bytes), Use::kAtomic, caller);
}

void order_fence() {}

}  // namespace emu
