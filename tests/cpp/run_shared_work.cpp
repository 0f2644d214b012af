// run_shared_work.cpp: SharedWork on four threads: every part is done once, and nothing outlives a run. No kernels.
#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "common/shared_work.h"
#include "runner.h"

namespace {

using namespace ssd::test;
using ssd::SharedWork;
using std::chrono::milliseconds;

constexpr int kThreads = 4;
constexpr int kParts = 1000;

struct Interrupt {};
void interrupt() { throw Interrupt{}; }

void parts(Case& one) {
  std::vector<int> times(kParts);
  std::atomic<int> others{0};
  SharedWork::with([&](SharedWork& work) {
    const auto driver = std::this_thread::get_id();
    for (int run = 0; run < 50; ++run) {  // runs follow each other at once: a late thread must not take an old part
      const int count = run % 7 == 0 ? run / 7 : kParts;
      work.run(count, [&](int64_t part) {
        ++times[part];
        others += std::this_thread::get_id() != driver;
        if (run == 0 || part % 100 == 0) std::this_thread::yield();
      });
      for (int part = 0; part < count; ++part) {
        one.expect(times[part] == 1, "run " + std::to_string(run) + ": a part was not done once");
      }
      times.assign(kParts, 0);
    }
    work.run(kThreads, [&](int64_t) { std::this_thread::sleep_for(milliseconds(50)); });
  });
  one.expect(others > 0, "the driver did all parts");
}

// A poll of the driver ends the run, but only when no other thread is at a part any more.
void interrupt_waits_for_parts(Case& one) {
  std::atomic<int> at_work{0};
  std::string end = "all parts are done";
  try {
    const ssd::Interruptible interruptible(interrupt);
    SharedWork::with([&](SharedWork& work) {
      const auto driver = std::this_thread::get_id();
      try {
        work.run(100'000, [&](int64_t) {
          if (std::this_thread::get_id() == driver) {
            std::this_thread::sleep_for(milliseconds(1));
            ssd::poll_interrupt();
          } else {
            ++at_work;
            std::this_thread::sleep_for(milliseconds(20));
            --at_work;
          }
        });
      } catch (const Interrupt&) {
        end = std::to_string(at_work) + " threads at work";
        throw;
      }
    });
  } catch (const Interrupt&) {
    end += ", interrupt";
  }
  one.expect(end == "0 threads at work, interrupt", end);
}

// The same while the driver waits for the last parts.
void interrupt_of_waiting_driver(Case& one) {
  std::atomic<int> done{0};
  std::string end = "all parts are done";
  try {
    const ssd::Interruptible interruptible(interrupt);
    SharedWork::with([&](SharedWork& work) {
      const auto driver = std::this_thread::get_id();
      work.run(kThreads, [&](int64_t) {
        const bool is_driver = std::this_thread::get_id() == driver;
        std::this_thread::sleep_for(milliseconds(is_driver ? 50 : 400));
        ++done;
      });
    });
  } catch (const Interrupt&) {
    end = "interrupt";
  }
  one.expect(end == "interrupt", end);
  one.expect(done == kThreads, "a thread was left at its part");
}

void driver_fails(Case& one) {
  std::string end = "no error";
  try {
    SharedWork::with([](SharedWork&) { throw std::runtime_error("of the driver"); });
  } catch (const std::runtime_error& error) {
    end = error.what();
  }
  one.expect(end == "of the driver", end);
}

void nested(Case& one) {
  std::atomic<int> done{0};
  ssd::parallel_for(kThreads, 1, [&](int64_t, int64_t) {
    SharedWork::with([&](SharedWork& work) { work.run(10, [&](int64_t) { ++done; }); });
  });
  one.expect(done == 10 * kThreads, std::to_string(done) + " parts done");
}

}  // namespace

int main(int argc, char** argv) {
  setenv("OMP_NUM_THREADS", std::to_string(kThreads).c_str(), 1);
  if (dlopen("libgomp.so.1", RTLD_NOW | RTLD_GLOBAL) == nullptr) throw std::runtime_error(dlerror());
  Runner runner("shared_work", argc, argv, 1);
  runner.good("parts", parts);
  runner.good("interrupt-waits-for-parts", interrupt_waits_for_parts);
  runner.good("interrupt-of-waiting-driver", interrupt_of_waiting_driver);
  runner.good("driver-fails", driver_fails);
  runner.good("nested", nested);
  return runner.finish();
}
