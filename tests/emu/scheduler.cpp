// scheduler.cpp: runs a launch. Blocks are admitted a few at a time; whenever the running thread waits, the next one is
// chosen by the schedule and switched to directly.
#include "emu/scheduler.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "emu/checker.h"

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace emu {

Options options;
Launch running;
Thread* current = nullptr;
bool in_kernel = false;

namespace {

uint64_t random_state;
uint64_t launches_since_restart;

void seed_random() {
  random_state = (options.seed + launches_since_restart) * 0x9E3779B97F4A7C15ull | 1;
  for (int i = 0; i < 4; ++i) random_below(1);
}

uint3 unflatten(unsigned number, dim3 extent) {
  return {number % extent.x, number / extent.x % extent.y, number / extent.x / extent.y};
}

void admit_block() {
  auto block = std::make_unique<Block>();
  block->number = running.block_order[running.next_block++];
  block->index = unflatten(block->number, gridDim);
  const unsigned thread_count = blockDim.x * blockDim.y * blockDim.z;
  block->alive = thread_count;
  block->threads.resize(thread_count);
  block->warps.resize((thread_count + kWarpSize - 1) / kWarpSize);
  if (const unsigned rest = thread_count % kWarpSize; rest > 0) block->warps.back().gone = ~0u << rest;
  take_shared_memory(*block);
  order_begin_block(*block);
  for (unsigned i = 0; i < thread_count; ++i) {
    Thread& thread = block->threads[i];
    thread.block = block.get();
    thread.number = i;
    thread.index = unflatten(i, blockDim);
    make_ready(thread);
  }
  running.resident.push_back(std::move(block));
}

// The blocks of a cluster, or of a cooperative grid, are admitted together.
void admit_blocks() {
  const std::size_t blocks = running.block_order.size();
  const std::size_t cluster = running.config.cluster_size;
  const std::size_t wanted = running.config.cooperative ? blocks : std::max(1u, options.resident_blocks);
  const std::size_t limit = std::max(wanted, cluster);
  while (running.next_block < blocks && running.resident.size() + cluster <= limit) {
    for (std::size_t i = 0; i < cluster; ++i) admit_block();
  }
}

std::unique_ptr<Block> take_from_residents(const Block& block) {
  const auto mine = [&](const std::unique_ptr<Block>& other) { return other.get() == &block; };
  const auto found = std::find_if(running.resident.begin(), running.resident.end(), mine);
  std::unique_ptr<Block> taken = std::move(*found);
  running.resident.erase(found);
  return taken;
}

// Shared memory is reused only when no block of the cluster can access it any more.
void retire_block(Block& block) {
  order_end_block(block);
  running.retired = take_from_residents(block);
  if (running.config.cluster_size == 1) return release_shared_memory(block);
  const uint32_t cluster = cluster_of(block);
  running.waiting_for_cluster.push_back(std::move(running.retired));
  if (!resident_blocks_of_cluster(cluster).empty()) return;
  auto& waiting = running.waiting_for_cluster;
  for (std::size_t i = 0; i < waiting.size();) {
    if (cluster_of(*waiting[i]) != cluster) {
      ++i;
      continue;
    }
    release_shared_memory(*waiting[i]);
    if (waiting[i].get() == &block) running.retired = std::move(waiting[i]);
    waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

// The thread to run next, no longer among the ready ones; nullptr when the launch is over, or cannot go on.
Thread* pick() {
  std::deque<Thread*>& ready = running.ready;
  if (running.failed || ready.empty()) return nullptr;
  if (options.order == Order::kInOrder) {
    Thread* thread = ready.front();
    ready.pop_front();
    return thread;
  }
  if (options.order == Order::kRandom) std::swap(ready[random_below(ready.size())], ready.back());
  Thread* thread = ready.back();
  ready.pop_back();
  return thread;
}

void make_current(Thread& thread) {
  current = &thread;
  threadIdx = thread.index;
  blockIdx = thread.block->index;
}

void exit_thread(Thread& thread) {
  thread.state = State::kExited;
  Block& block = *thread.block;
  block.warps[thread.warp()].gone |= thread.lane_bit();
  block.alive -= 1;
  running.yields_without_progress = 0;
  thread_exited(thread);
  if (block.alive > 0) return;
  retire_block(block);
  admit_blocks();
}

void fiber_main() {
  fiber_entered();
  for (;;) {
    in_kernel = true;
    running.kernel.call(running.kernel.arguments);
    in_kernel = false;
    thread_leaves_copies(*current);
    Fiber mine = current->fiber;
    current->fiber = Fiber();
    exit_thread(*current);
    Thread* next = pick();
    if (next != nullptr && next->fiber.stack == nullptr) {  // a thread that has not begun takes over this stack
      next->fiber = mine;
      make_current(*next);
      continue;
    }
    release_stack(mine);
    if (next == nullptr) leave_fiber(running.host);
    make_current(*next);
    leave_fiber(next->fiber);
  }
}

void begin_or_resume(Fiber& from, Thread& thread) {
  if (thread.fiber.stack == nullptr) start_fiber(thread.fiber, fiber_main);
  make_current(thread);
  switch_fiber(from, thread.fiber);
}

bool valid_configuration(dim3 grid, dim3 block) {
  const std::size_t threads = std::size_t(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64) return false;
  return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535;
}

// Orders the clusters; the blocks of each stay together.
void order_blocks(std::size_t count) {
  const std::size_t cluster = running.config.cluster_size;
  std::vector<uint32_t> order(count / cluster);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint32_t>(i);
  if (options.order == Order::kReverse) std::reverse(order.begin(), order.end());
  if (options.order == Order::kRandom) {
    for (std::size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random_below(i + 1)]);
  }
  running.block_order.resize(count);
  for (std::size_t i = 0; i < count; ++i) running.block_order[i] = order[i / cluster] * cluster + i % cluster;
}

// Releases the stacks and the shared memory of threads that will never finish.
void abandon_blocks() {
  for (auto& block : running.resident) {
    for (Thread& thread : block->threads) {
      if (thread.fiber.stack != nullptr) release_stack(thread.fiber);
    }
  }
  for (auto* blocks : {&running.resident, &running.waiting_for_cluster}) {
    for (auto& block : *blocks) release_shared_memory(*block);
    blocks->clear();
  }
  running.ready.clear();
}

void run_all_blocks() {
  admit_blocks();
  if (Thread* first = pick()) begin_or_resume(running.host, *first);
  current = nullptr;
  if (!running.failed && !running.resident.empty()) report_deadlock();
  abandon_blocks();
  running.retired.reset();
}

}  // namespace

void restart(const Options& wanted) {
  options = wanted;
  launches_since_restart = 0;
  checker_restart();
  forget_findings();
}

uint32_t random_below(uint32_t limit) {  // xorshift64
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return static_cast<uint32_t>(random_state >> 16) % limit;
}

void make_ready(Thread& thread) {
  thread.state = State::kReady;
  thread.block->warps[thread.warp()].waiting &= ~thread.lane_bit();
  running.ready.push_back(&thread);
}

void wait_until_ready() {
  Thread& me = *current;
  if (!me.copies.empty()) deliver_some_copies(me);
  Thread* next = pick();
  if (next == &me) return make_current(me);
  if (next == nullptr) return switch_fiber(me.fiber, running.host);  // for good, unless the launch goes on
  begin_or_resume(me.fiber, *next);
}

// Goes behind all others, in whichever order they run: a spinning thread must not keep them from running.
void yield() {
  current->state = State::kReady;
  if (options.order == Order::kReverse) {
    running.ready.push_front(current);
  } else {
    running.ready.push_back(current);
  }
  wait_until_ready();
}

void abandon_launch() {
  running.failed = true;
  switch_fiber(current->fiber, running.host);
  std::abort();  // never resumed
}

cudaError_t run(const Kernel& kernel, const LaunchConfig& config) {
  static std::mutex one_launch_at_a_time;
  const std::lock_guard<std::mutex> lock(one_launch_at_a_time);
  if (!valid_configuration(config.grid, config.block)) return remember_error(cudaErrorInvalidConfiguration);
  if (const cudaError_t status = begin_launch(kernel.function); status != cudaSuccess) return status;
  const std::size_t opt_in = dynamic_shared_opt_in(kernel.function);
  if (config.dynamic_shared_bytes > std::max(kSharedBytesWithoutOptIn, opt_in)) {
    return remember_error(cudaErrorInvalidValue);
  }
  if (const cudaError_t status = check_attributes(config); status != cudaSuccess) return remember_error(status);

  gridDim = config.grid;
  blockDim = config.block;
  running.kernel = kernel;
  running.config = config;
  running.dynamic_bytes = config.dynamic_shared_bytes;
  running.shared_limit = opt_in > 0 ? kSharedBytesLimit : kSharedBytesWithoutOptIn;
  running.failed = false;
  running.host = caller_fiber();
  running.next_block = 0;
  running.at_grid_barrier = 0;
  running.chances_to_yield = 0;
  running.yields_without_progress = 0;
  launches_since_restart += 1;
  seed_random();
  const std::size_t blocks = std::size_t(gridDim.x) * gridDim.y * gridDim.z;
  order_blocks(blocks);
  order_begin_work(config.stream, config.programmatic);
  order_begin_grid(blocks);

  const int findings_before = finding_count();
  run_all_blocks();
  order_end_work();
  running.kernel = Kernel{};
  return finding_count() == findings_before ? cudaSuccess : remember_error(cudaErrorLaunchFailure);
}

}  // namespace emu
