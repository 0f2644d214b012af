// run_parallel.cpp: parallel_for on four threads: what ends a loop, and how it gets out of it. No kernels.
#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "common/parallel.h"
#include "runner.h"

namespace {

using namespace ssd::test;
using std::chrono::steady_clock;

constexpr int kThreads = 4;

// Polls until a poll throws; returns after ten seconds, within which one should.
void poll_forever() {
  const auto end = steady_clock::now() + std::chrono::seconds(10);
  while (steady_clock::now() < end) ssd::poll_interrupt();
}

struct Interrupt {};

std::atomic<int> checks{0}, checks_elsewhere{0};
std::thread::id caller;
void check() {
  ++(std::this_thread::get_id() == caller ? checks : checks_elsewhere);
  throw Interrupt{};
}

// Runs a loop with one item per thread, and says how it ended.
template <typename Body>
std::string end_of(const Body& body, void (*checked)() = nullptr) {
  caller = std::this_thread::get_id();
  checks = checks_elsewhere = 0;
  std::atomic<int> finished{0};
  try {
    const ssd::Interruptible interruptible(checked);
    ssd::parallel_for(kThreads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(i);
      ++finished;
    });
  } catch (const std::runtime_error& error) {
    return std::to_string(finished) + " finished, error " + error.what();
  } catch (const Interrupt&) {
    return std::to_string(finished) + " finished, interrupt";
  } catch (const ssd::LoopStopped&) {
    return "a thread that was stopped raised";
  }
  return std::to_string(finished) + " finished";
}

void expect_end(Case& one, const std::string& got, const std::string& want) {
  one.expect(got == want, "expected '" + want + "', got '" + got + "'");
  const std::string again = end_of([](int64_t) { ssd::poll_interrupt(); });
  one.expect(again == "4 finished", "the next loop: " + again);
}

void items(Case& one) {
  std::vector<int> times(1000);
  std::atomic<int> calls{0};
  ssd::parallel_for(1000, 10, [&](int64_t begin, int64_t end) {
    ++calls;
    for (int64_t i = begin; i < end; ++i) ++times[i];
  });
  one.equal(times, std::vector<int>(1000, 1), "items");
  one.expect(calls == kThreads, "the loop does not run on four threads");
}

void parts(Case& one) {
  std::vector<int> times(1003);
  std::atomic<int> longest{0};
  ssd::parallel_for_parts(1003, 10, 1, [&](int64_t begin, int64_t end) {
    if (end - begin > 10) longest = static_cast<int>(end - begin);
    for (int64_t i = begin; i < end; ++i) ++times[i];
  });
  one.equal(times, std::vector<int>(1003, 1), "items");
  one.expect(longest == 0, "a part is longer than the grain");
}

void worker_fails(Case& one) {
  const auto body = [](int64_t i) {
    if (i == kThreads - 1) throw std::runtime_error("of a worker");
    poll_forever();
  };
  expect_end(one, end_of(body), "0 finished, error of a worker");
}

void caller_fails(Case& one) {
  const auto body = [](int64_t i) {
    if (i == 0) throw std::runtime_error("of the caller");
    poll_forever();
  };
  expect_end(one, end_of(body), "0 finished, error of the caller");
}

void all_fail(Case& one) {
  const auto body = [](int64_t i) { throw std::runtime_error(std::to_string(i)); };
  expect_end(one, end_of(body), "0 finished, error 0");
}

void interrupt(Case& one) {
  expect_end(one, end_of([](int64_t) { poll_forever(); }, check), "0 finished, interrupt");
}

void interrupt_between_parts(Case& one) {
  std::string end = "all parts are done";
  try {
    const ssd::Interruptible interruptible(check);
    ssd::parallel_for_parts(40'000, 1, ssd::detail::kStepsPerPoll,
                            [](int64_t, int64_t) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); });
  } catch (const Interrupt&) {
    end = "interrupt";
  }
  expect_end(one, end, "interrupt");
}

void interrupt_while_caller_waits(Case& one) {
  const auto body = [](int64_t i) {
    if (i == kThreads - 1) poll_forever();
  };
  expect_end(one, end_of(body, check), "3 finished, interrupt");
}

void interrupt_of_nested_loop(Case& one) {
  const auto body = [](int64_t) { ssd::parallel_for(kThreads, 1, [](int64_t, int64_t) { poll_forever(); }); };
  expect_end(one, end_of(body, check), "0 finished, interrupt");
}

void check_is_callers(Case& one) {
  const std::string end = end_of([](int64_t) { poll_forever(); }, check);
  one.expect(checks == 1, "the caller checked " + std::to_string(checks) + " times");
  one.expect(checks_elsewhere == 0, "a worker checked");
}

// A check may run an op: it has its own polls, and those of the loop around it go on.
void check_runs_loop(Case& one) {
  static std::string inner;
  const auto run_loop = [] {
    inner = end_of([](int64_t) { ssd::poll_interrupt(); });
    throw Interrupt{};
  };
  expect_end(one, end_of([](int64_t) { poll_forever(); }, run_loop), "0 finished, interrupt");
  one.expect(inner == "1 finished", "the loop of the check: " + inner);  // on one thread
}

void nobody_checks(Case& one) {
  const auto begin = steady_clock::now();
  while (steady_clock::now() - begin < 2 * ssd::detail::kCheckInterval) ssd::poll_interrupt();
  one.expect(ssd::detail::polling.check == nullptr, "a check is left over");
}

void first_look_checks_nothing(Case& one) {  // so that short calls do not wait for the GIL
  checks = 0;
  for (int call = 0; call < 1000; ++call) {
    const ssd::Interruptible interruptible(check);
    ssd::poll_interrupt();
  }
  one.expect(checks == 0, "a call checked at its first look");
}

}  // namespace

int main(int argc, char** argv) {
  setenv("OMP_NUM_THREADS", std::to_string(kThreads).c_str(), 1);
  if (dlopen("libgomp.so.1", RTLD_NOW | RTLD_GLOBAL) == nullptr) throw std::runtime_error(dlerror());
  Runner runner("parallel", argc, argv, 1);
  runner.good("items", items);
  runner.good("parts", parts);
  runner.good("worker-fails", worker_fails);
  runner.good("caller-fails", caller_fails);
  runner.good("all-fail", all_fail);
  runner.good("interrupt", interrupt);
  runner.good("interrupt-between-parts", interrupt_between_parts);
  runner.good("interrupt-while-caller-waits", interrupt_while_caller_waits);
  runner.good("interrupt-of-nested-loop", interrupt_of_nested_loop);
  runner.good("check-is-callers", check_is_callers);
  runner.good("check-runs-loop", check_runs_loop);
  runner.good("nobody-checks", nobody_checks);
  runner.good("first-look-checks-nothing", first_look_checks_nothing);
  return runner.finish();
}
