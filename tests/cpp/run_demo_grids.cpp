// run_demo_grids.cpp: the cases of demo_grids.cu and demo_copies.cu, which run_demo.cpp runs after its own.
#include "run_demo_grids.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "demo_task.h"

#ifdef SSD_EMULATED
#include "emu/emu.h"
#endif

namespace {

using ssd::Stream;
using ssd::demo::Fault;
using ssd::demo::Quadruple;
using ssd::test::Case;
using ssd::test::DeviceArray;
using ssd::test::Random;
using ssd::test::require;
using ssd::test::Runner;

const Stream kStream{};

std::vector<int> random_numbers(int n) {
  Random random(6);
  std::vector<int> numbers(n);
  for (int& number : numbers) number = random.below(200) - 100;
  return numbers;
}

// How many blocks a device holds differs between devices, and here between schedules.
void cooperative_sum(Case& one, Fault fault) {
  const int n = 1000;
  const int blocks = std::min(ssd::demo::most_blocks_that_sum(), 1000);
  const std::vector<int> x = random_numbers(n);
  DeviceArray<int> input(x);
  DeviceArray<int> partial(blocks);
  DeviceArray<int> totals(blocks);
  ssd::demo::sum_by_all_blocks(input.data(), n, blocks, partial.data(), totals.data(), kStream, fault);
  const int want = std::accumulate(x.begin(), x.end(), 0);
  const std::vector<int> got = totals.host();
  one.expect(blocks >= 4, "a device holds a few blocks");
  one.expect(std::count(got.begin(), got.end(), want) == blocks, "totals");
}

void cooperative_sum_too_large(Case& one) {
  const int blocks = ssd::demo::most_blocks_that_sum() + 1;
  DeviceArray<int> input(random_numbers(1));
  DeviceArray<int> partial(blocks);
  DeviceArray<int> totals(blocks);
  std::string thrown;
  try {
    ssd::demo::sum_by_all_blocks(input.data(), 1, blocks, partial.data(), totals.data(), kStream);
  } catch (const std::runtime_error& error) {
    thrown = error.what();
  }
  one.expect(thrown.find("sum_by_all_blocks_kernel") != std::string::npos, "names the kernel: " + thrown);
  one.expect(thrown.find("too many blocks in cooperative launch") != std::string::npos, thrown);
}

struct Chain {
  static constexpr int kSize = 300;
  std::vector<int> x = random_numbers(kSize);
  DeviceArray<int> input{x};
  DeviceArray<int> values{kSize};
  DeviceArray<int> count{1};
  DeviceArray<int> sums{kSize};
  DeviceArray<int> result{kSize};

  int positive() const {
    return static_cast<int>(std::count_if(x.begin(), x.end(), [](int number) { return number > 0; }));
  }
};

void programmatic_chain(Case& one, Fault fault) {
  constexpr int kSize = Chain::kSize;
  Chain chain;
  for (int round = 0; round < 2; ++round) {  // the second overlaps with the end of the first
    ssd::demo::add_doubled_neighbors(chain.input.data(), kSize, chain.values.data(), chain.count.data(),
                                     chain.sums.data(), chain.result.data(), kStream, fault);
  }
  std::vector<int> want(kSize);
  for (int i = 0; i < kSize; ++i) want[i] = 2 * chain.x[i] + 2 * chain.x[(i + 1) % kSize] + chain.positive();
  one.equal(chain.result.host(), want, "result");
  one.equal(chain.values.host(), std::vector<int>(kSize, -1), "values");
}

#ifdef SSD_EMULATED
struct OlderGpu {
  OlderGpu() { emu::host.architecture = 80; }
  ~OlderGpu() { emu::host.architecture = 90; }
};

// The first launch asks what the kernel was compiled for: here, for a GPU without programmatic launches.
void programmatic_below_90(Case& one) {
  const std::vector<int> x = random_numbers(100);
  DeviceArray<int> input(x);
  DeviceArray<int> doubled(100);
  DeviceArray<int> count = DeviceArray<int>::zeros(1);
  DeviceArray<int> copies(100);
  ssd::demo::double_numbers(input.data(), 100, doubled.data(), count.data(), kStream);
  const OlderGpu gpu;
  const bool clusters = ssd::demo::copy_early(doubled.data(), 100, copies.data(), kStream);
  one.expect(!clusters, "no clusters");
  one.equal(copies.host(), doubled.host(), "copies");
}
#endif

class StreamOfItsOwn {
 public:
  StreamOfItsOwn() { require(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
  ~StreamOfItsOwn() { cudaStreamDestroy(handle); }

  Stream stream() const {
    Stream stream{};
    stream.handle = handle;
    return stream;
  }

  cudaStream_t handle = nullptr;
};

enum class Missing { kNothing, kWaitForInput, kEvent, kWaitForResult };

// One stream doubles, the other doubles again; then the host reads. The host's copy to the device may still be in
// flight when it returns, and these streams do not wait for the default one.
void two_streams(Case& one, Missing missing) {
  const int n = 100;
  const std::vector<int> x = random_numbers(n);
  DeviceArray<int> input(x);
  DeviceArray<int> doubled(n);
  DeviceArray<int> result(n);
  DeviceArray<int> counts = DeviceArray<int>::zeros(2);
  StreamOfItsOwn first;
  StreamOfItsOwn second;
  cudaEvent_t event = nullptr;
  require(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  if (missing != Missing::kWaitForInput) require(cudaDeviceSynchronize());
  ssd::demo::double_numbers(input.data(), n, doubled.data(), counts.data(), first.stream());
  require(cudaEventRecord(event, first.handle));
  if (missing != Missing::kEvent) require(cudaStreamWaitEvent(second.handle, event, 0));
  ssd::demo::double_numbers(doubled.data(), n, result.data(), counts.data() + 1, second.stream());
  if (missing != Missing::kWaitForResult) require(cudaStreamSynchronize(second.handle));
  std::vector<int> want(n);
  for (int i = 0; i < n; ++i) want[i] = 4 * x[i];
  one.equal(result.host(), want, "result");
  require(cudaEventDestroy(event));
}

void pass_on(Case& one, Fault fault) {
  if (!ssd::demo::can_pass_on()) return;
  const int clusters = 3;
  DeviceArray<int> out(clusters * 4 * 64);
  ssd::demo::pass_on(clusters, out.data(), kStream, fault);
  std::vector<int> want(out.size());
  for (std::size_t i = 0; i < want.size(); ++i) want[i] = static_cast<int>(100 * ((i / 64 + 2) % 4) + i % 64);
  one.equal(out.host(), want, "out");
}

void sum_tiles(Case& one, int n, Fault fault) {
  std::vector<Quadruple> x(n);
  std::vector<int> want(64);
  Random random(7);
  for (int i = 0; i < n; ++i) {
    for (int& number : x[i].numbers) {
      number = random.below(1000);
      want[63 - i % 64] += number;
    }
  }
  DeviceArray<Quadruple> input(x);
  DeviceArray<int> sums(64);
  ssd::demo::sum_tiles(input.data(), n, sums.data(), kStream, fault);
  one.equal(sums.host(), want, "sums");
}

void copy_one(Case& one, int bytes, int begin) {
  const std::vector<int> numbers = {1, 2, 3, 4, 5, 6, 7, 8};
  DeviceArray<int> input(numbers);
  DeviceArray<int> out(1);
  ssd::demo::copy_one(reinterpret_cast<const char*>(input.data()) + begin, bytes, out.data(), kStream);
  one.equal(out.host(), {numbers[begin / 4]}, "out");
}

void wait_within_block(Case& one) {
  DeviceArray<int> out(2);
  ssd::demo::wait_within_block(out.data(), kStream);
  one.equal(out.host(), {42, 43}, "out");
}

void wait_across_blocks(Case& one, Fault fault) {
  DeviceArray<int> flag = DeviceArray<int>::zeros(1);
  DeviceArray<int> out(2);
  ssd::demo::wait_across_blocks(flag.data(), out.data(), kStream, fault);
  one.equal(out.host(), {42, 43}, "out");
}

}  // namespace

namespace ssd::test {

void add_good_grids(Runner& runner) {
  runner.good("cooperative-sum", [](Case& one) { cooperative_sum(one, Fault::kNone); });
  runner.good("cooperative-sum-too-large", cooperative_sum_too_large);
  runner.good("programmatic-chain", [](Case& one) { programmatic_chain(one, Fault::kNone); });
#ifdef SSD_EMULATED
  runner.good("programmatic-below-90", programmatic_below_90);
#endif
  runner.good("two-streams", [](Case& one) { two_streams(one, Missing::kNothing); });
  runner.good("cluster", [](Case& one) { pass_on(one, Fault::kNone); });
  for (const int n : {1, 63, 64, 65, 300}) {
    runner.good("copies-" + std::to_string(n), [n](Case& one) { sum_tiles(one, n, Fault::kNone); });
  }
  for (const int bytes : {4, 8, 16}) {
    runner.good("copy-of-" + std::to_string(bytes), [bytes](Case& one) { copy_one(one, bytes, bytes); });
  }
  runner.good("wait-within-block", wait_within_block);
  runner.good("wait-across-blocks", [](Case& one) { wait_across_blocks(one, Fault::kNone); });
}

void add_faulty_grids(Runner& runner) {
  const auto grid = [&](const char* name, const char* expected, Fault fault) {
    runner.fault(name, expected, [fault](Case& one) { cooperative_sum(one, fault); });
  };
  grid("fault-grid-barrier", "data race", Fault::kGridBarrierMissing);
  grid("fault-grid-block-missing", "wait in grid_barrier", Fault::kGridBlockMissing);
  runner.fault("fault-grid-not-cooperative", "a launch that is not cooperative", [](Case&) {
    DeviceArray<int> out(2);
    ssd::demo::meet_without_attribute(out.data(), kStream);
  });

  const auto chain = [&](const char* name, const char* expected, Fault fault) {
    runner.fault(name, expected, [fault](Case& one) { programmatic_chain(one, fault); });
  };
  chain("fault-memset-not-awaited", "is not ordered with the write by a memset", Fault::kMemsetNotAwaited);
  chain("fault-launch-not-awaited", "of an earlier launch", Fault::kLaunchNotAwaited);
  chain("fault-launch-awaited-alone", "of an earlier launch", Fault::kLaunchAwaitedAlone);
  chain("fault-nobody-waits", "of an earlier launch", Fault::kNobodyWaits);
  chain("fault-overwrites-too-early", "is not ordered with the read by", Fault::kOverwritesTooEarly);
  runner.fault("fault-memset-too-early", "data race: cudaMemset", [](Case&) {
    Chain chain;
    ssd::demo::zero_behind_a_chain(chain.input.data(), Chain::kSize, chain.values.data(), chain.count.data(),
                                   chain.sums.data(), kStream);
  });
  runner.fault("fault-two-streams", "of an earlier launch", [](Case& one) { two_streams(one, Missing::kEvent); });
  runner.fault("fault-input-not-awaited", "is not ordered with the write by a memset or copy",
               [](Case& one) { two_streams(one, Missing::kWaitForInput); });
  runner.fault("fault-host-reads-too-early", "data race: cudaMemcpy",
               [](Case& one) { two_streams(one, Missing::kWaitForResult); });

  const auto cluster = [&](const char* name, const char* expected, Fault fault) {
    runner.fault(name, expected, [fault](Case& one) { pass_on(one, fault); });
  };
  cluster("fault-cluster-not-started", "before the first cluster_barrier", Fault::kClusterNotStarted);
  cluster("fault-cluster-barrier", "data race: write", Fault::kClusterBarrierMissing);
  cluster("fault-cluster-ends-too-early", "data race: the end of block", Fault::kClusterEndsTooEarly);
  const auto exited = [&](const char* name, const char* expected, bool late) {
    runner.fault(name, expected, [late](Case&) {
      DeviceArray<int> out(1);
      ssd::demo::take_from_exited(out.data(), late, kStream);
    });
  };
  exited("fault-cluster-exited", "shared memory of a block that has exited", false);
  exited("fault-cluster-asks-too-late", "block 1 of the cluster has exited", true);

  const auto copies = [&](const char* name, const char* expected, Fault fault) {
    runner.fault(name, expected, [fault](Case& one) { sum_tiles(one, 200, fault); });
  };
  copies("fault-copy-source-written", "is not ordered with the read in flight", Fault::kCopySourceWritten);
  copies("fault-copy-destination-written", "is not ordered with the write in flight", Fault::kCopyDestinationWritten);
  copies("fault-copy-not-committed", "is not ordered with the write in flight", Fault::kCopyNotCommitted);
  copies("fault-copy-not-awaited", "is not ordered with the write in flight", Fault::kCopyNotAwaited);
  copies("fault-copy-barrier", "data race: read", Fault::kCopyBarrierMissing);
  copies("fault-copy-shuffled", "is not ordered with the write by block", Fault::kCopyShuffled);
  runner.fault("fault-copy-abandoned", "was never waited for", [](Case&) {
    DeviceArray<Quadruple> from(std::vector<Quadruple>(1));
    ssd::demo::abandon_copy(from.data(), kStream);
  });
  runner.fault("fault-copy-again-source-written", "is not ordered with the read in flight", [](Case&) {
    DeviceArray<int> x(std::vector<int>{42});
    DeviceArray<int> out(1);
    ssd::demo::copy_twice(x.data(), out.data(), kStream);
  });
  runner.fault("fault-copy-misaligned", "is misaligned", [](Case& one) { copy_one(one, 16, 4); });
  runner.fault("fault-copy-of-12", "is not of 4, 8 or 16 bytes", [](Case& one) { copy_one(one, 12, 0); });

  const auto scopes = [&](const char* name, Fault fault) {
    runner.fault(name, "data race", [fault](Case& one) { wait_across_blocks(one, fault); });
  };
  scopes("fault-narrow-release", Fault::kNarrowRelease);
  scopes("fault-narrow-acquire", Fault::kNarrowAcquire);
  scopes("fault-narrow-atomic", Fault::kNarrowAtomic);
}

}  // namespace ssd::test
