// atomics.cpp: what happens around an atomic or a fence. Threads that spin on atomics must let the others run.
#include "emu/checker.h"

namespace emu {

void let_others_run() {
  constexpr unsigned kUsualInterval = 64;
  constexpr unsigned kLivelock = 100 * 1000;
  OutsideKernel outside;
  const bool due = ++running.chances_to_yield % kUsualInterval == 0;
  const bool preempted = options.preempt > 0 && random_below(options.preempt) == 0;
  if (!due && !preempted) return;
  if (due && ++running.yields_without_progress > kLivelock) {
    report("livelock: threads spin on atomics that change nothing, and none exits or reaches a barrier");
    abandon_launch();
  }
  yield();
}

void before_atomic(void* address, int bytes, Scope scope, void* caller) {
  in_kernel = false;  // until after_atomic: the update itself is the emulator's
  order_atomic(address, bytes, scope, caller);
}

void after_atomic(bool changed_memory) {
  if (changed_memory) running.yields_without_progress = 0;
  let_others_run();
}

void fence(Scope scope) {
  {
    OutsideKernel outside;
    order_fence(scope);
  }
  let_others_run();
}

}  // namespace emu
