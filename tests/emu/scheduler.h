// scheduler.h: the launch in progress, its blocks and threads. Shared by the emulator's own files only.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "emu/cuda_on_cpu.h"
#include "emu/emu.h"
#include "emu/fiber.h"

namespace emu {

constexpr unsigned kWarpSize = 32;
constexpr std::size_t kSharedBytesWithoutOptIn = 48 * 1024;
constexpr std::size_t kSharedBytesLimit = 227 * 1024;
constexpr std::size_t kSharedBytesOfMultiprocessor = 228 * 1024;
constexpr std::size_t kSharedBytesReserved = 1024;  // of each block
constexpr unsigned kThreadsOfMultiprocessor = 2048;

enum class State : uint8_t { kReady, kAtWarpFunction, kAtBlockBarrier, kAtClusterBarrier, kAtGridBarrier, kExited };

struct Block;
struct BlockOrder;  // the checker's: what happened before what

// What a thread brings to a warp function, and what it takes away.
struct WarpCall {
  WarpOp op = WarpOp::kSync;
  unsigned mask = 0;
  int source_lane = 0;
  int bytes = 0;
  alignas(16) unsigned char value[16];
  alignas(16) unsigned char result[16];
};

// An asynchronous copy that its thread has not waited for.
struct Copy {
  char* to;
  const char* from;
  unsigned bytes;
  unsigned zeros;  // how many of the last bytes become zero
  uint32_t batch;
  bool delivered;
  const void* caller;  // the return address in the kernel's code
};

struct Thread {
  Block* block = nullptr;
  uint3 index{};
  unsigned number = 0;  // in its block
  State state = State::kReady;
  Fiber fiber;
  Site site{};  // of the barrier or warp function it waits in
  WarpCall call;
  int barrier_result = 0;
  std::vector<Copy> copies;
  uint32_t batches = 0;  // of copies, committed

  unsigned lane() const { return number % kWarpSize; }
  unsigned warp() const { return number / kWarpSize; }
  unsigned lane_bit() const { return 1u << lane(); }
};

// The lanes of a warp that wait in warp functions, and those that have exited or never were.
struct Lanes {
  unsigned waiting = 0;
  unsigned gone = 0;
};

struct Block {
  uint3 index{};
  uint32_t number = 0;  // in the grid
  std::vector<Thread> threads;
  std::vector<Lanes> warps;
  unsigned alive = 0;  // threads that have not exited
  unsigned at_barrier = 0;
  unsigned at_cluster_barrier = 0;
  unsigned cluster_barriers = 0;  // passed
  int predicate_count = 0;        // of those at the barrier
  void* dynamic_shared = nullptr;
  std::vector<void*> static_shared;  // by the variable's number; nullptr until it is first used
  std::size_t static_bytes = 0;
  std::shared_ptr<BlockOrder> order;
};

struct Launch {
  Kernel kernel{};
  LaunchConfig config;
  std::size_t dynamic_bytes = 0;
  std::size_t shared_limit = 0;
  uint32_t serial = 0;  // never repeats; what the host does to device memory has serials too
  bool failed = false;  // nothing more can be learned from it: every thread is abandoned
  Fiber host;           // the caller of run
  std::deque<Thread*> ready;
  std::vector<std::unique_ptr<Block>> resident;
  std::unique_ptr<Block> retired;  // the latest to finish: its last thread may still be on its way out
  std::vector<std::unique_ptr<Block>> waiting_for_cluster;  // have finished, while others of their cluster have not
  unsigned at_grid_barrier = 0;
  std::vector<uint32_t> block_order;
  std::size_t next_block = 0;
  unsigned chances_to_yield = 0;
  unsigned yields_without_progress = 0;
};

extern Launch running;
extern Thread* current;  // nullptr in host code
extern bool in_kernel;   // kernel code is running, not the emulator or the host; the checker checks nothing else

// Stands at the top of every function that kernels call.
class OutsideKernel {
 public:
  OutsideKernel() { in_kernel = false; }
  ~OutsideKernel() { in_kernel = true; }
};

uint32_t random_below(uint32_t limit);

void make_ready(Thread& thread);
void wait_until_ready();  // the current thread has said in its state what it waits for
void yield();
[[noreturn]] void abandon_launch();  // after a finding that the current thread cannot go on from
void thread_exited(Thread& thread);  // releases those that waited for it

// Whether threads that wait for one another wait at the same source line. If not, it is reported and the launch fails.
bool met_at_one_line(const Thread*& first, const Thread& other);

inline uint32_t cluster_of(const Block& block) { return block.number / running.config.cluster_size; }
std::vector<Block*> resident_blocks_of_cluster(uint32_t cluster);
void try_to_complete_cluster_barrier(uint32_t cluster);
cudaError_t check_attributes(const LaunchConfig& config);
unsigned blocks_of_multiprocessor(unsigned threads, std::size_t dynamic_shared_bytes);

void deliver_some_copies(Thread& thread);   // it is about to wait
void thread_leaves_copies(Thread& thread);  // it has exited: reported if it has not waited for all

void take_shared_memory(Block& block);
void release_shared_memory(Block& block);
void* shared_variable_of(Block& block, int number);
std::vector<std::pair<char*, std::size_t>> shared_memory_of(const Block& block);  // all that it has taken
bool is_shared_memory_of(const Block& block, const void* address);

// The bytes that a kernel has opted in to with cudaFuncSetAttribute.
std::size_t dynamic_shared_opt_in(const void* function);
cudaError_t begin_launch(const void* function);  // loads the kernel, if this is its first launch, and counts
cudaError_t remember_error(cudaError_t status);

// ---- findings ------------------------------------------------------------------------------------------------------

void report(const std::string& what);
void report_again();  // the same once more
void forget_findings();
void report_deadlock();
std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));
std::string function_name(const void* function);
std::string source_lines(const void* return_address);  // "nms.cu:57 < nms.cu:120": where, and inlined into what

}  // namespace emu
