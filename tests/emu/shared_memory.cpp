// shared_memory.cpp: the memory behind SSD_SHARED and SSD_DYN_SHARED.
#include <algorithm>

#include "emu/checker.h"

namespace emu {
namespace {

constexpr std::size_t kAlignment = 16;  // of static shared memory, at least

struct Variable {
  std::size_t bytes;
  std::size_t alignment;
};

// A function's static, because shared variables are numbered before main, in any order of files.
std::vector<Variable>& variables() {
  static std::vector<Variable> all;
  return all;
}

}  // namespace

int new_shared_variable(std::size_t bytes, std::size_t alignment) {
  variables().push_back({bytes, std::max(alignment, kAlignment)});
  return static_cast<int>(variables().size()) - 1;
}

void take_shared_memory(Block& block) {
  block.static_shared.assign(variables().size(), nullptr);
  if (running.dynamic_bytes > 0) block.dynamic_shared = allocate(running.dynamic_bytes, 1024, Memory::kShared);
}

void release_shared_memory(Block& block) {
  for (const auto& [memory, bytes] : shared_memory_of(block)) release(memory, bytes, Memory::kShared);
}

std::vector<std::pair<char*, std::size_t>> shared_memory_of(const Block& block) {
  std::vector<std::pair<char*, std::size_t>> taken;
  const auto add = [&](void* memory, std::size_t bytes) {
    if (memory != nullptr) taken.emplace_back(static_cast<char*>(memory), bytes);
  };
  add(block.dynamic_shared, running.dynamic_bytes);
  for (std::size_t i = 0; i < block.static_shared.size(); ++i) add(block.static_shared[i], variables()[i].bytes);
  return taken;
}

bool is_shared_memory_of(const Block& block, const void* address) {
  const char* byte = static_cast<const char*>(address);
  const auto in = [byte](const void* memory, std::size_t bytes) {
    const char* begin = static_cast<const char*>(memory);
    return begin != nullptr && byte >= begin && byte < begin + bytes;
  };
  if (in(block.dynamic_shared, running.dynamic_bytes)) return true;
  for (std::size_t i = 0; i < block.static_shared.size(); ++i) {
    if (in(block.static_shared[i], variables()[i].bytes)) return true;
  }
  return false;
}

// Static shared memory is taken when it is first used: only the compiler knows which variables a kernel has.
void* shared_variable_of(Block& block, int number) {
  void*& memory = block.static_shared[number];
  if (memory != nullptr) return memory;
  const Variable& variable = variables()[number];
  memory = allocate(variable.bytes, variable.alignment, Memory::kShared);
  block.static_bytes += variable.bytes;
  const std::size_t total = block.static_bytes + running.dynamic_bytes;
  if (block.static_bytes > kSharedBytesWithoutOptIn || total > running.shared_limit) {
    report(format("too much shared memory: %zu static + %zu dynamic bytes, %zu allowed", block.static_bytes,
                  running.dynamic_bytes, running.shared_limit));
  }
  return memory;
}

void* shared_variable(int number) {
  OutsideKernel outside;
  return shared_variable_of(*current->block, number);
}

void* dynamic_shared_memory() {
  OutsideKernel outside;
  Block& block = *current->block;
  if (block.dynamic_shared == nullptr) {
    report("the kernel uses dynamic shared memory, and its launch gives none");
    abandon_launch();
  }
  return block.dynamic_shared;
}

}  // namespace emu
