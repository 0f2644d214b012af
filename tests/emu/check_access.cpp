// check_access.cpp: checks every access of a kernel.
#include <set>
#include <tuple>

#include "emu/check_memory.h"

extern "C" char __executable_start;
extern "C" char _end;

namespace emu {
namespace {

std::set<std::tuple<std::string, uint32_t, uint32_t>> reported;  // what, and the code of one or two accesses

// Returns whether it is the first of its kind between these two lines of code; the others are only counted.
bool is_news(const char* what, uint32_t code, uint32_t other_code) {
  if (reported.insert({what, code, other_code}).second) return true;
  report_again();
  return false;
}

const char* name(AccessKind kind) {
  switch (kind) {
    case AccessKind::kRead:
      return "read";
    case AccessKind::kWrite:
      return "write";
    case AccessKind::kCopyRead:
      return "asynchronous read";
    case AccessKind::kCopyWrite:
      return "asynchronous write";
    case AccessKind::kBlockAtomic:
      return "atomic within the block";
    default:
      return "atomic";
  }
}

bool is_read(AccessKind kind) { return kind == AccessKind::kRead || kind == AccessKind::kCopyRead; }
bool is_write(AccessKind kind) { return kind == AccessKind::kWrite || kind == AccessKind::kCopyWrite; }

// "the write by block 1 thread 2 at nms.cu:57"
std::string whose(const Access& access, const char* name) {
  if (access.code == 0) return format("the %s by a memset or copy of the host", name);
  const bool earlier = access.serial != short_serial(running.serial);
  return format("the %s%s by block %u thread %u%s at %s", name, access.in_flight && !earlier ? " in flight" : "",
                access.block, unsigned(access.thread), earlier ? " of an earlier launch" : "",
                source_lines(&__executable_start + access.code).c_str());
}

const char* name_of_write(const Cell& cell) { return cell.write_is_atomic ? "atomic" : "write"; }

// One access, which is checked cell by cell.
struct Check {
  const void* address;
  int bytes;
  AccessKind kind;
  const void* caller;
  Access now;

  std::string text() const {
    return format("%s of %d bytes at %p by %s", name(kind), bytes, address, source_lines(caller).c_str());
  }

  void report_fault(const char* what) const {
    if (is_news(what, now.code, 0)) report(std::string(what) + ": " + text());
  }

  void report_race(const Access& other, const char* other_name) const {
    if (!is_news("data race", now.code, other.code)) return;
    report(format("data race: %s\n  is not ordered with %s", text().c_str(), whose(other, other_name).c_str()));
  }

  bool both_atomic(const Cell& cell) const {
    if (is_read(kind) || is_write(kind) || !cell.write_is_atomic) return false;
    const bool same_block = cell.write.block == now.block && cell.write.serial == now.serial;
    return same_block || (kind == AccessKind::kAtomic && !cell.write_is_of_block);
  }

  void against_write(const Cell& cell, unsigned mask) const {
    if ((cell.write_mask & mask) == 0 || both_atomic(cell)) return;
    if (!happened_before(cell.write, *current)) report_race(cell.write, name_of_write(cell));
  }

  void against_reads(const Cell& cell, unsigned mask) const {
    for (int i = 0; i < 2; ++i) {
      if ((cell.read_masks[i] & mask) == 0) continue;
      if (!happened_before(cell.reads[i], *current)) report_race(cell.reads[i], "read");
    }
  }

  // Takes the place of a read that tells no more than this one, or an empty place, or none. A copy always takes one: an
  // access that its thread's wait does not find cannot be found in flight either.
  void remember_read(Cell& cell, unsigned mask) const {
    int place = kind == AccessKind::kCopyRead ? 0 : -1;
    for (int i = 0; i < 2; ++i) {
      const Access& read = cell.reads[i];
      const bool mine = read.block == now.block && read.thread == now.thread && read.serial == now.serial;
      if (cell.read_masks[i] != 0 && !(mine && !read.in_flight) && !happened_before(read, *current)) continue;
      place = i;
      break;
    }
    if (place < 0) return;
    cell.reads[place] = now;
    cell.read_masks[place] = static_cast<uint8_t>(mask);
  }

  void remember_write(Cell& cell, unsigned mask) const {
    cell.write = now;
    cell.write_mask = mask & kAllBytes;
    cell.write_is_atomic = !is_write(kind);
    cell.write_is_of_block = kind == AccessKind::kBlockAtomic;
    cell.read_masks[0] = 0;
    cell.read_masks[1] = 0;
    cell.written |= mask & kAllBytes;
  }

  // Returns false if the rest of the access is not worth checking.
  bool look_at(Cell& cell, unsigned mask) const {
    if ((cell.allocated & mask) != mask) {
      const bool alone = running.config.cluster_size == 1;
      report_fault(alone ? "out of bounds" : "out of bounds, or shared memory of a block that has exited");
      return false;
    }
    if (!is_write(kind) && (cell.written & mask) != mask) {
      report_fault("uninitialized");
      cell.written |= mask & kAllBytes;
    }
    against_write(cell, mask);
    if (is_read(kind)) {
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

bool is_shared_memory_of_another(const void* address) {
  for (const Block* block : resident_blocks_of_cluster(cluster_of(*current->block))) {
    if (block != current->block && is_shared_memory_of(*block, address)) return true;
  }
  return false;
}

}  // namespace

void checker_restart() {
  reported.clear();
  order_host_waits_for_all();
}

bool check_access(const void* address, int bytes, AccessKind kind, const void* caller) {
  const Thread& me = *current;
  const bool in_flight = kind == AccessKind::kCopyRead || kind == AccessKind::kCopyWrite;
  const auto code = static_cast<uint32_t>(static_cast<const char*>(caller) - &__executable_start);
  const Access now{me.block->number, me.block->order->epoch,      clock_of(me), code, me.number,
                   in_flight,        short_serial(running.serial)};
  const Check check{address, bytes, kind, caller, now};
  if (!in_arena(address)) {
    if (!is_private(address)) check.report_fault("not device memory");
    return false;
  }
  if (running.config.cluster_size > 1 && me.block->cluster_barriers == 0 && is_shared_memory_of_another(address)) {
    check.report_fault("access to another block's shared memory before the first cluster_barrier");
  }
  for_each_cell(address, static_cast<std::size_t>(bytes),
                [&](Cell& cell, unsigned mask) { return check.look_at(cell, mask); });
  return true;
}

void order_atomic(void* address, int bytes, Scope scope, void* caller) {
  check_access(address, bytes, scope == Scope::kBlock ? AccessKind::kBlockAtomic : AccessKind::kAtomic, caller);
  release_and_acquire(address, scope);
}

// ---- asynchronous copies -------------------------------------------------------------------------------------------

void order_begin_copy(const Copy& copy) {
  const int read = static_cast<int>(copy.bytes - copy.zeros);
  if (read > 0) check_access(copy.from, read, AccessKind::kCopyRead, copy.caller);
  check_access(copy.to, static_cast<int>(copy.bytes), AccessKind::kCopyWrite, copy.caller);
}

namespace {

// Calls work(access) for each access of the copy's thread that the cells of the copy remember.
template <class Work>
void for_each_access_of(const Copy& copy, const Work& work) {
  const Thread& me = *current;
  const auto look = [&](Access& access) {
    const bool mine = access.block == me.block->number && access.thread == me.number;
    if (mine && access.serial == short_serial(running.serial)) work(access);
  };
  const auto look_at_reads = [&](Cell& cell, unsigned) {
    for (Access& read : cell.reads) look(read);
    return true;
  };
  const auto look_at_write = [&](Cell& cell, unsigned) {
    look(cell.write);
    return true;
  };
  if (in_arena(copy.from)) for_each_cell(copy.from, copy.bytes - copy.zeros, look_at_reads);
  if (in_arena(copy.to)) for_each_cell(copy.to, copy.bytes, look_at_write);
}

}  // namespace

void order_end_copy(const Copy& copy) {
  for_each_access_of(copy, [](Access& access) {
    if (!access.in_flight) return;
    access.in_flight = 0;
    access.epoch = current->block->order->epoch;
    access.clock = clock_of(*current);
  });
}

void order_keep_copy(const Copy& copy) {
  for_each_access_of(copy, [](Access& access) { access.in_flight = 1; });
}

// ---- the end of a block of a cluster -------------------------------------------------------------------------------

// Its shared memory goes with it: other blocks' accesses there must have happened before.
void order_end_block(Block& block) {
  if (running.config.cluster_size == 1) return;
  const auto ends_after = [&](const Access& access) {
    if (access.block == block.number || access.serial != short_serial(running.serial)) return true;
    return std::any_of(block.threads.begin(), block.threads.end(),
                       [&](const Thread& thread) { return happened_before(access, thread); });
  };
  const auto check = [&](const Access& access, const char* name) {
    if (ends_after(access) || !is_news("end of block", 0, access.code)) return;
    report(format("data race: the end of block %u, and of its shared memory,\n  is not ordered with %s", block.number,
                  whose(access, name).c_str()));
  };
  for (const auto& [memory, bytes] : shared_memory_of(block)) {
    for_each_cell(memory, bytes, [&](Cell& cell, unsigned) {
      if (cell.write_mask != 0) check(cell.write, name_of_write(cell));
      for (int i = 0; i < 2; ++i) {
        if (cell.read_masks[i] != 0) check(cell.reads[i], "read");
      }
      return true;
    });
    forget(memory, bytes);
  }
}

// ---- the host ------------------------------------------------------------------------------------------------------

void order_host_access(const void* memory, std::size_t bytes, bool writes, const char* function) {
  if (!in_arena(memory)) return;
  Access now{};
  now.serial = short_serial(running.serial);
  const auto check = [&](const Access& other, const char* name) {
    if (comes_after(other.serial) || !is_news(function, 0, other.code)) return;
    report(format("data race: %s of %zu bytes at %p\n  is not ordered with %s", function, bytes, memory,
                  whose(other, name).c_str()));
  };
  bool initialized = true;
  for_each_cell(memory, bytes, [&](Cell& cell, unsigned mask) {
    initialized = initialized && (writes || (cell.written & mask) == mask);
    if ((cell.write_mask & mask) != 0) check(cell.write, name_of_write(cell));
    for (int i = 0; i < 2; ++i) {
      if (writes && (cell.read_masks[i] & mask) != 0) check(cell.reads[i], "read");
    }
    if (!writes) {
      const bool taken = cell.read_masks[0] != 0 && !comes_after(cell.reads[0].serial);
      cell.reads[taken] = now;
      cell.read_masks[taken] = static_cast<uint8_t>(mask);
      return true;
    }
    cell.write = now;
    cell.write_mask = mask & kAllBytes;
    cell.write_is_atomic = 0;
    cell.read_masks[0] = 0;
    cell.read_masks[1] = 0;
    cell.written |= mask & kAllBytes;
    return true;
  });
  // As initcheck does on a GPU.
  if (!initialized) report(format("uninitialized: %s reads %zu bytes at %p", function, bytes, memory));
}

}  // namespace emu
