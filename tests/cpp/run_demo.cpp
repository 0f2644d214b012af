// run_demo.cpp: tests the emulator and its checker. Good kernels must pass; every planted fault must be reported.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

#include "demo_task.h"
#include "run_demo_grids.h"
#include "runner.h"

#ifdef SSD_EMULATED
#include "emu/emu.h"
#endif

namespace {

using ssd::Stream;
using ssd::demo::Box;
using ssd::demo::Fault;
using ssd::test::Case;
using ssd::test::DeviceArray;
using ssd::test::Random;
using ssd::test::Runner;

const Stream kStream{};

void sort(Case& one, Fault fault) {
  const int rows = 4;
  const int n = 1000;
  std::vector<float> values = Random(1).uniform(rows * n, -1.0f, 1.0f);
  values[3] = values[17] = values[500];  // a tie
  DeviceArray<float> input(values);
  DeviceArray<float> sorted(rows * n);
  DeviceArray<int> indices(rows * n);
  ssd::demo::sort(input.data(), rows, n, sorted.data(), indices.data(), kStream, fault);

  std::vector<float> want_sorted(rows * n);
  std::vector<int> want_indices(rows * n);
  for (int row = 0; row < rows; ++row) {
    const float* in_row = &values[row * n];
    int* order = &want_indices[row * n];
    std::iota(order, order + n, 0);
    std::stable_sort(order, order + n, [&](int a, int b) { return in_row[a] > in_row[b]; });
    for (int i = 0; i < n; ++i) want_sorted[row * n + i] = in_row[order[i]];
  }
  one.equal(sorted.host(), want_sorted, "sorted");
  one.equal(indices.host(), want_indices, "indices");
}

void sum_and_compact(Case& one, Fault fault) {
  const int n = 5000;
  const float threshold = 0.5f;
  const std::vector<float> values = Random(2).uniform(n, -1.0f, 1.0f);
  DeviceArray<float> input(values);
  DeviceArray<float> sum(1);
  DeviceArray<int> kept(n);
  DeviceArray<int> count(1);
  ssd::demo::sum_and_compact(input.data(), n, threshold, sum.data(), kept.data(), count.data(), kStream, fault);

  double want_sum = 0;
  std::vector<int> want_kept;
  for (int i = 0; i < n; ++i) {
    want_sum += values[i];
    if (values[i] > threshold) want_kept.push_back(i);
  }
  one.expect(std::fabs(sum.host()[0] - want_sum) < 1e-2, "sum");
  one.remember(sum.host());
  one.equal(count.host(), {static_cast<int>(want_kept.size())}, "count");
  one.equal(kept.first(want_kept.size()), want_kept, "kept");
}

std::vector<Box> random_boxes(int n) {
  Random random(3);
  std::vector<Box> boxes(n);
  for (Box& box : boxes) {
    box.x1 = random.uniform(0.0f, 1.0f);
    box.y1 = random.uniform(0.0f, 1.0f);
    box.x2 = box.x1 + random.uniform(0.05f, 0.25f);
    box.y2 = box.y1 + random.uniform(0.05f, 0.25f);
  }
  return boxes;
}

void nms(Case& one, int n, int classes, Fault fault) {
  const int max_output = 200;
  const float threshold = 0.45f;
  const int words = (n + 63) / 64;
  const std::vector<Box> boxes = random_boxes(n * classes);
  DeviceArray<Box> input(boxes);
  DeviceArray<uint64_t> mask(static_cast<std::size_t>(classes) * n * words);
  DeviceArray<int> kept(classes * max_output);
  DeviceArray<int> counts(classes);
  ssd::demo::nms(input.data(), classes, n, threshold, max_output, mask.data(), kept.data(), counts.data(), kStream,
                 fault);

  std::vector<int> want_counts;
  for (int c = 0; c < classes; ++c) {
    const Box* of_class = &boxes[c * n];
    std::vector<int> want;
    for (int i = 0; i < n && static_cast<int>(want.size()) < max_output; ++i) {
      const auto suppresses_i = [&](int k) { return ssd::demo::overlaps(of_class[k], of_class[i], threshold); };
      if (std::none_of(want.begin(), want.end(), suppresses_i)) want.push_back(i);
    }
    want_counts.push_back(static_cast<int>(want.size()));
    one.equal(kept.part(c * max_output, want.size()), want, "kept");
  }
  one.equal(counts.host(), want_counts, "counts");
}

void exchange(Case& one, Fault fault) {
  DeviceArray<int> out(32);
  ssd::demo::exchange(out.data(), kStream, fault);
  std::vector<int> want(32);
  for (int i = 0; i < 32; ++i) want[i] = i ^ 16;
  one.equal(out.host(), want, "out");
}

void last_block_sum(Case& one, Fault fault) {
  const int n = 4096;
  const std::vector<float> values = Random(4).uniform(n, -1.0f, 1.0f);
  DeviceArray<float> input(values);
  DeviceArray<float> partial(32);
  DeviceArray<unsigned> ticket = DeviceArray<unsigned>::zeros(1);
  DeviceArray<float> sum(1);
  ssd::demo::last_block_sum(input.data(), n, partial.data(), ticket.data(), sum.data(), kStream, fault);
  const double want = std::accumulate(values.begin(), values.end(), 0.0);
  one.expect(std::fabs(sum.host()[0] - want) < 1e-2, "sum");
  one.remember(sum.host());
}

// Whole numbers and halves, which 16-bit floats hold exactly. step: the bits of 0.5, 1, 1.5 and 2.
void axpy(Case& one, const std::vector<uint16_t>& step, void (*run)(const uint16_t*, uint16_t*, float, int, Stream)) {
  const int n = 300;
  const std::vector<uint16_t> x(n, step[0]);
  const std::vector<uint16_t> y(n, step[1]);
  DeviceArray<uint16_t> device_x(x);
  DeviceArray<uint16_t> device_y(y);
  run(device_x.data(), device_y.data(), 2.0f, n, kStream);
  one.equal(device_y.host(), std::vector<uint16_t>(n, step[3]), "y");
}

void histogram(Case& one, Fault fault) {
  const int n = 1000;
  Random random(5);
  std::vector<int> values(n);
  std::vector<int> want_counts(16);
  std::vector<unsigned> want_seen(32);
  for (int i = 0; i < n; ++i) {
    values[i] = random.below(16);
    want_counts[values[i]] += 1;
    want_seen[i / 32] |= 1u << (i % 32);
  }
  DeviceArray<int> input(values);
  DeviceArray<int> counts = DeviceArray<int>::zeros(16);
  DeviceArray<unsigned> seen = DeviceArray<unsigned>::zeros(32);
  DeviceArray<float> total = DeviceArray<float>::zeros(1);
  ssd::demo::histogram(input.data(), n, counts.data(), seen.data(), total.data(), kStream, fault);
  one.equal(counts.host(), want_counts, "counts");
  one.equal(seen.host(), want_seen, "seen");
  one.equal(total.host(), {n / 2.0f}, "total");
}

void functions(Case& one) {
  constexpr int kFunctionsTested = 24;
  DeviceArray<int> out(64);
  ssd::demo::functions(out.data(), kStream);
  one.equal(out.host(), std::vector<int>(64, kFunctionsTested), "number of functions that are right");
}

void wait_for_flag(Case& one, Fault fault) {
  DeviceArray<int> flags = DeviceArray<int>::zeros(2);
  DeviceArray<int> out(2);
  ssd::demo::wait_for_flag(flags.data(), out.data(), kStream, fault);
  one.equal(out.host(), {42, 43}, "out");
}

// The ints that take 58,000, 50,000 and 232,512 bytes: more than a kernel gets without asking, and more than there is.
constexpr int kMany = 14500;
constexpr int kFewer = 12500;
constexpr int kTooMany = 58128;

std::vector<int> counted_in_shared_memory(int variant, int n) {
  DeviceArray<int> out(n);
  ssd::demo::count_in_shared_memory(variant, n, out.data(), kStream);
  return out.host();
}

std::vector<int> numbers_below(int n) {
  std::vector<int> numbers(n);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// Launches of all sizes, in any order, after the kernel's limit has been set once.
void launch_sizes(Case& one) {
  for (const int n : {kMany, kFewer, 1, kMany}) {
    one.equal(counted_in_shared_memory(0, n), numbers_below(n), std::to_string(n) + " ints");
  }
  bool thrown = false;
  try {
    counted_in_shared_memory(0, kTooMany);
  } catch (const std::runtime_error& error) {
    thrown = std::string(error.what()).find("count_in_shared_memory_kernel") != std::string::npos;
  }
  one.expect(thrown, "a launch that needs more shared memory than there is throws, and names the kernel");
  one.equal(counted_in_shared_memory(0, kMany), numbers_below(kMany), "again");
}

#ifndef SSD_CHECKED  // the checker knows the memory accesses of one host thread
// All threads share one limit: a thread that needs less must not lower it before another's launch.
void launch_threads(Case& one) {
  const int sizes[] = {kMany, kFewer};
  DeviceArray<int> many(kMany);
  DeviceArray<int> fewer(kFewer);
  int* const outs[] = {many.data(), fewer.data()};
  std::string failures[2];
  std::atomic<int> arrivals{0};
  const auto work = [&](int index) {
    for (int i = 1; i <= 50; ++i) {
      arrivals += 1;
      while (arrivals < 2 * i) std::this_thread::yield();  // both launch at once
      try {
        ssd::demo::count_in_shared_memory(1, sizes[index], outs[index], kStream);
      } catch (const std::exception& error) {
        failures[index] = error.what();
      }
    }
  };
  std::thread other(work, 1);
  work(0);
  other.join();
  for (const std::string& failure : failures) one.expect(failure.empty(), failure);
  one.equal(many.host(), numbers_below(kMany), "many");
  one.equal(fewer.host(), numbers_below(kFewer), "fewer");
}
#endif

#ifdef SSD_EMULATED
// A kernel is loaded, and its limit set, at its first launch and never again; an attempt that fails does not count.
void launch_preparation(Case& one) {
  static bool prepared = false;
  const std::map<std::string, int> before = emu::host.calls;
  const auto called = [&](const char* function) {
    const auto found = before.find(function);
    return emu::host.calls[function] - (found == before.end() ? 0 : found->second);
  };
  emu::host.capturing = true;  // CUDA forbids loading now, unless the thread is relaxed about it
  if (!prepared) {
    emu::host.next_failure = "cudaFuncSetAttribute";
    bool thrown = false;
    try {
      counted_in_shared_memory(2, 1);
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    one.expect(thrown && called("cudaFuncSetAttribute") == 1, "a limit that cannot be set ends the launch");
  }
  for (const int n : {kMany, kFewer, kMany}) {
    one.equal(counted_in_shared_memory(2, n), numbers_below(n), std::to_string(n) + " ints");
  }
  emu::host.capturing = false;
  const int expected = prepared ? 0 : 2;
  one.expect(called("cudaFuncGetAttributes") == expected, "loaded once");
  one.expect(called("cudaFuncSetAttribute") == expected, "limit set once");
  prepared = true;
}

// With SSD_FAST_SYNC=1 a launch throws an error that only waiting for it reveals; else nothing waits.
void launch_waits(Case& one) {
  const char* setting = std::getenv("SSD_FAST_SYNC");
  const bool waits = setting != nullptr && std::string(setting) == "1";
  emu::host.next_failure = "cudaStreamSynchronize";
  std::string thrown;
  try {
    counted_in_shared_memory(0, 1);
  } catch (const std::runtime_error& error) {
    thrown = error.what();
  }
  one.expect(emu::host.next_failure.empty() == waits, "waits if it should");
  emu::host.next_failure.clear();
  const bool named = thrown.find("count_in_shared_memory_kernel") != std::string::npos;
  one.expect(waits ? named : thrown.empty(), "the error names the kernel");
}
#endif

void add_good(Runner& runner) {
  runner.good("sort", [](Case& one) { sort(one, Fault::kNone); });
  runner.good("sum-and-compact", [](Case& one) { sum_and_compact(one, Fault::kNone); });
  runner.good("nms-500", [](Case& one) { nms(one, 500, 3, Fault::kNone); });
  for (const int n : {1, 63, 64, 65}) {
    runner.good("nms-" + std::to_string(n), [n](Case& one) { nms(one, n, 2, Fault::kNone); });
  }
  runner.good("exchange", [](Case& one) { exchange(one, Fault::kNone); });
  runner.good("last-block-sum", [](Case& one) { last_block_sum(one, Fault::kNone); });
  runner.good("half", [](Case& one) { axpy(one, {0x3800, 0x3c00, 0x3e00, 0x4000}, ssd::demo::half_axpy); });
  runner.good("bfloat16", [](Case& one) { axpy(one, {0x3f00, 0x3f80, 0x3fc0, 0x4000}, ssd::demo::bfloat16_axpy); });
  runner.good("histogram", [](Case& one) { histogram(one, Fault::kNone); });
  runner.good("functions", functions);
  runner.good("wait-for-flag", [](Case& one) { wait_for_flag(one, Fault::kNone); });
  runner.good("launch-sizes", launch_sizes);
#ifndef SSD_CHECKED
  runner.good("launch-threads", launch_threads);
#endif
#ifdef SSD_EMULATED
  runner.good("launch-preparation", launch_preparation);
  runner.good("launch-waits", launch_waits);
#endif
}

void add_faults(Runner& runner) {
  runner.fault("fault-sort-barrier", "data race", [](Case& one) { sort(one, Fault::kSortBarrierMissing); });
  runner.fault("fault-sum-barrier", "data race", [](Case& one) { sum_and_compact(one, Fault::kSumBarrierMissing); });
  runner.fault("fault-sum-uninitialized", "uninitialized",
               [](Case& one) { sum_and_compact(one, Fault::kSumUninitialized); });
  runner.fault("fault-compact-barrier", "data race",
               [](Case& one) { sum_and_compact(one, Fault::kCompactBarrierMissing); });
  runner.fault("fault-nms-barrier", "data race", [](Case& one) { nms(one, 500, 1, Fault::kNmsBarrierMissing); });
  runner.fault("fault-nms-global-overrun", "out of bounds: read",
               [](Case& one) { nms(one, 500, 1, Fault::kNmsGlobalOverrun); });
  runner.fault("fault-nms-shared-overrun", "out of bounds: read",
               [](Case& one) { nms(one, 500, 1, Fault::kNmsSharedOverrun); });
  runner.fault("fault-exchange-unordered", "data race", [](Case& one) { exchange(one, Fault::kExchangeUnordered); });
  runner.fault("fault-exchange-shuffled", "data race", [](Case& one) { exchange(one, Fault::kExchangeShuffled); });
  runner.fault("fault-last-block-unreleased", "data race",
               [](Case& one) { last_block_sum(one, Fault::kLastBlockUnreleased); });
  runner.fault("fault-last-block-unacquired", "data race",
               [](Case& one) { last_block_sum(one, Fault::kLastBlockUnacquired); });
  runner.fault("fault-flag-too-early", "data race", [](Case& one) { wait_for_flag(one, Fault::kFlagTooEarly); });
  runner.fault("fault-histogram-barrier", "data race",
               [](Case& one) { histogram(one, Fault::kHistogramBarrierMissing); });
  runner.fault("fault-two-writers", "data race: write", [](Case&) {
    DeviceArray<int> out(1);
    ssd::demo::write_twice(out.data(), kStream);
  });
  runner.fault("fault-read-beside-atomic", "data race", [](Case&) {
    DeviceArray<int> value = DeviceArray<int>::zeros(1);
    DeviceArray<int> out(1);
    ssd::demo::read_beside_atomic(value.data(), out.data(), kStream);
  });
  runner.fault("fault-synchronized-halves", "data race", [](Case&) {
    DeviceArray<int> out(32);
    ssd::demo::synchronize_halves(out.data(), kStream);
  });
  runner.fault("fault-divergent-barrier", "barrier divergence", [](Case&) {
    DeviceArray<int> out(64);
    ssd::demo::diverge_at_barrier(out.data(), kStream);
  });
  runner.fault("fault-missing-lane", "deadlock", [](Case&) {
    DeviceArray<int> out(32);
    ssd::demo::leave_out_a_lane(out.data(), kStream);
  });
  runner.fault("fault-livelock", "livelock", [](Case&) {
    DeviceArray<int> flag = DeviceArray<int>::zeros(1);
    ssd::demo::spin_forever(flag.data(), kStream);
  });
  runner.fault("fault-copy-uninitialized", "uninitialized: cudaMemcpy reads 8 bytes", [](Case& one) {
    DeviceArray<int> out(2);
    ssd::test::require(cudaMemset(out.data(), 0, sizeof(int)));
    one.equal(out.first(1), {0}, "what was written");
    out.host();
  });
  runner.fault("fault-host-memory", "not device memory", [](Case&) {
    const int host = 1;
    DeviceArray<int> out(1);
    ssd::demo::read_host_memory(&host, out.data(), kStream);
  });
  runner.fault("fault-use-after-free", "out of bounds: read", [](Case&) {
    const int* freed = DeviceArray<int>::zeros(1).data();
    DeviceArray<int> out(1);
    ssd::demo::use_after_free(freed, out.data(), kStream);
  });
  runner.fault("fault-no-shared-memory", "its launch gives none", [](Case&) {
    DeviceArray<int> out(32);
    ssd::demo::ask_for_no_shared_memory(out.data(), kStream);
  });
}

}  // namespace

int main(int argc, char** argv) {
  Runner runner("demo", argc, argv);
  add_good(runner);
  ssd::test::add_good_grids(runner);
  add_faults(runner);
  ssd::test::add_faulty_grids(runner);
  return runner.finish();
}
