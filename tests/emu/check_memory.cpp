// check_memory.cpp: device memory with its shadow. All of it, shared memory included, comes from one arena, with a
// 64-byte cell for each 4 bytes.
#include "emu/check_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>

namespace emu {

char* arena;
Cell* shadow;

namespace {

constexpr std::size_t kRedZoneBytes = 64;  // never allocated, between allocations

char* arena_unused;                                     // everything from here on was never allocated
std::map<std::size_t, std::vector<char*>> free_shared;  // by size; shared memory is reused, device memory never
void* reserve(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return memory;
}

// Zeroes memory; whole pages are given back to the system, which makes them zero when they are next touched.
void clear(void* begin, void* end) {
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<std::size_t>(begin);
  const auto last = reinterpret_cast<std::size_t>(end);
  const std::size_t first_page = (first + page - 1) / page * page;
  const std::size_t last_page = last / page * page;
  if (last_page < first_page + 64 * page) {
    std::memset(begin, 0, last - first);
    return;
  }
  std::memset(begin, 0, first_page - first);
  madvise(reinterpret_cast<void*>(first_page), last_page - first_page, MADV_DONTNEED);
  std::memset(reinterpret_cast<void*>(last_page), 0, last - last_page);
}

char* take_from_arena(std::size_t bytes, std::size_t alignment) {
  if (arena == nullptr) {
    arena = static_cast<char*>(reserve(kArenaBytes));
    shadow = static_cast<Cell*>(reserve(kArenaBytes / kCellBytes * sizeof(Cell)));
    arena_unused = arena;
  }
  const auto unaligned = reinterpret_cast<std::size_t>(arena_unused) + kRedZoneBytes;
  char* memory = reinterpret_cast<char*>((unaligned + alignment - 1) / alignment * alignment);
  if (memory + bytes + kRedZoneBytes > arena + kArenaBytes) return nullptr;
  arena_unused = memory + (bytes + kCellBytes - 1) / kCellBytes * kCellBytes;
  return memory;
}

}  // namespace

void forget(char* memory, std::size_t bytes) { clear(&cell_of(memory), &cell_of(memory + bytes + kCellBytes - 1)); }

void* allocate(std::size_t bytes, std::size_t alignment, Memory kind) {
  std::vector<char*>& reusable = free_shared[bytes];
  char* memory = nullptr;
  if (kind == Memory::kShared && !reusable.empty()) {
    memory = reusable.back();
    reusable.pop_back();
  } else {
    memory = take_from_arena(bytes, kind == Memory::kShared ? 1024 : alignment);
    if (memory == nullptr) return nullptr;
  }
  for (std::size_t i = 0; i < bytes; ++i) cell_of(memory + i).allocated |= 1u << i % kCellBytes;
  std::memset(memory, poison_byte(), bytes);
  return memory;
}

void release(void* memory, std::size_t bytes, Memory kind) {
  char* first = static_cast<char*>(memory);
  forget(first, bytes);
  if (kind == Memory::kShared) {
    free_shared[bytes].push_back(first);
  } else {
    clear(first, first + bytes);  // to give it back; the shadow shows a use after free
  }
}

}  // namespace emu
