// check_memory.cpp: device memory with its shadow, and the check of every access.
//
// All device memory, shared memory included, comes from one arena, with a 64-byte cell for each 4 bytes.
#include "emu/check_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <tuple>

#include "emu/check_order.h"

extern "C" char __executable_start;
extern "C" char _end;

namespace emu {
namespace {

constexpr std::size_t kArenaBytes = std::size_t(4) << 30;  // of address space
constexpr std::size_t kRedZoneBytes = 64;                  // never allocated, between allocations
constexpr std::size_t kCellBytes = 4;                      // of memory, that a cell stands for
constexpr unsigned kAllBytes = 0xF;

// The four bits of a mask stand for the four bytes.
struct alignas(64) Cell {
  Access write;
  Access reads[2];  // of different threads that nothing orders; two are enough to find one that races with a write
  uint8_t write_mask : 4;
  uint8_t write_is_atomic : 4;
  uint8_t read_masks[2];
  uint8_t written : 4;
  uint8_t allocated : 4;
};
static_assert(sizeof(Cell) == 64, "a cell is a cache line");

char* arena;
char* arena_unused;  // everything from here on was never allocated
Cell* shadow;
std::map<std::size_t, std::vector<char*>> free_shared;  // by size; shared memory is used again, device memory never
std::set<std::tuple<std::string, uint32_t, uint32_t>> reported;  // what, and the code of one or two accesses

void* reserve(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return memory;
}

bool in_arena(const void* address) { return address >= arena && address < arena + kArenaBytes; }

Cell& cell_of(const void* address) { return shadow[(static_cast<const char*>(address) - arena) / kCellBytes]; }

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

void forget(char* memory, std::size_t bytes) { clear(&cell_of(memory), &cell_of(memory + bytes + kCellBytes - 1)); }

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

const char* name(AccessKind kind) {
  switch (kind) {
    case AccessKind::kRead:
      return "read";
    case AccessKind::kWrite:
      return "write";
    default:
      return "atomic";
  }
}

// One access, of which a cell is looked at at a time.
struct Check {
  const void* address;
  int bytes;
  AccessKind kind;
  const void* caller;
  Access now;

  std::string text() const {
    return format("%s of %d bytes at %p by %s", name(kind), bytes, address, source_lines(caller).c_str());
  }

  // True if it is the first of its kind between these two lines of code; the others are only counted.
  bool is_news(const char* what, uint32_t other_code) const {
    if (reported.insert({what, now.code, other_code}).second) return true;
    report_again();
    return false;
  }

  void report_fault(const char* what) const {
    if (is_news(what, 0)) report(std::string(what) + ": " + text());
  }

  void report_race(const Access& other, const char* other_name) const {
    if (!is_news("data race", other.code)) return;
    report(format("data race: %s\n  is not ordered with the %s by block %u thread %u at %s", text().c_str(), other_name,
                  other.block, unsigned(other.thread), source_lines(&__executable_start + other.code).c_str()));
  }

  void against_write(const Cell& cell, unsigned mask) const {
    if ((cell.write_mask & mask) == 0) return;
    if (kind == AccessKind::kAtomic && cell.write_is_atomic) return;
    if (!happened_before(cell.write, *current)) report_race(cell.write, cell.write_is_atomic ? "atomic" : "write");
  }

  void against_reads(const Cell& cell, unsigned mask) const {
    for (int i = 0; i < 2; ++i) {
      if ((cell.read_masks[i] & mask) == 0) continue;
      if (!happened_before(cell.reads[i], *current)) report_race(cell.reads[i], "read");
    }
  }

  // Takes the place of a read that tells no more than this one, or an empty place, or none.
  void remember_read(Cell& cell, unsigned mask) const {
    for (int i = 0; i < 2; ++i) {
      const Access& read = cell.reads[i];
      const bool mine = read.block == now.block && read.thread == now.thread;
      if (cell.read_masks[i] != 0 && !mine && !happened_before(read, *current)) continue;
      cell.reads[i] = now;
      cell.read_masks[i] = static_cast<uint8_t>(mask);
      return;
    }
  }

  void remember_write(Cell& cell, unsigned mask) const {
    cell.write = now;
    cell.write_mask = mask & kAllBytes;
    cell.write_is_atomic = kind == AccessKind::kAtomic;
    cell.read_masks[0] = 0;
    cell.read_masks[1] = 0;
    cell.written |= mask & kAllBytes;
  }

  // False if the rest of the access is not worth looking at.
  bool look_at(Cell& cell, unsigned mask) const {
    if ((cell.allocated & mask) != mask) {
      report_fault("out of bounds");
      return false;
    }
    if (kind != AccessKind::kWrite && (cell.written & mask) != mask) {
      report_fault("uninitialised");
      cell.written |= mask & kAllBytes;
    }
    against_write(cell, mask);
    if (kind == AccessKind::kRead) {
      remember_read(cell, mask);
    } else {
      against_reads(cell, mask);
      remember_write(cell, mask);
    }
    return true;
  }
};

// Memory outside the arena that a kernel may use: its own stack, its arguments, and constants in the program.
bool is_private(const void* address) {
  const char* byte = static_cast<const char*>(address);
  const auto within = [byte](const char* begin, std::size_t bytes) { return byte >= begin && byte < begin + bytes; };
  return within(current->fiber.stack, kStackBytes) ||
         within(static_cast<const char*>(running.kernel.arguments), running.kernel.argument_bytes) ||
         within(&__executable_start, &_end - &__executable_start);
}

}  // namespace

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
    clear(first, first + bytes);  // for the memory; use after free is seen in the shadow
  }
}

void host_wrote(const void* memory, std::size_t bytes) {
  if (!in_arena(memory)) return;
  for (std::size_t i = 0; i < bytes; ++i) {
    const char* byte = static_cast<const char*>(memory) + i;
    cell_of(byte).written |= 1u << (byte - arena) % kCellBytes;
  }
}

// As initcheck does on a GPU.
void host_reads(const void* memory, std::size_t bytes) {
  if (!in_arena(memory)) return;
  for (std::size_t i = 0; i < bytes; ++i) {
    const char* byte = static_cast<const char*>(memory) + i;
    if ((cell_of(byte).written >> (byte - arena) % kCellBytes & 1) != 0) continue;
    report(format("uninitialised: a copy of %zu bytes at %p to the host reads byte %zu", bytes, memory, i));
    return;
  }
}

void checker_restart() { reported.clear(); }

bool check_access(const void* address, int bytes, AccessKind kind, const void* caller) {
  const Thread& me = *current;
  const auto code = static_cast<uint32_t>(static_cast<const char*>(caller) - &__executable_start);
  const Access now{me.block->number, me.block->order->epoch,      clock_of(me), code,
                   me.number,        short_serial(running.serial)};
  const Check check{address, bytes, kind, caller, now};
  if (!in_arena(address)) {
    if (!is_private(address)) check.report_fault("not device memory");
    return false;
  }
  const char* byte = static_cast<const char*>(address);
  const char* end = byte + bytes;
  while (byte < end) {
    const auto offset = static_cast<unsigned>((byte - arena) % kCellBytes);
    const auto count = static_cast<unsigned>(std::min<std::ptrdiff_t>(kCellBytes - offset, end - byte));
    const unsigned mask = ((1u << count) - 1) << offset;
    if (!check.look_at(cell_of(byte), mask)) return true;
    byte += count;
  }
  return true;
}

}  // namespace emu
