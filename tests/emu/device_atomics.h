// device_atomics.h: atomics and fences, as kernels call them. Only one fiber runs at a time, so a plain update is
// atomic; what is left to do is to tell the checker and to let other threads run.
#pragma once

#include <type_traits>

namespace emu {

void before_atomic(void* address, int bytes, void* caller);
void after_atomic(bool changed_memory);
void fence();
void let_others_run();  // so that a thread that spins on an atomic does not spin for ever

// Never inlined: in the caller, which is checked code, its accesses would be taken for plain ones, and its return
// address tells where in the kernel the atomic stands.
template <class T, class Update>
__attribute__((noinline, no_sanitize("thread"), no_sanitize_coverage)) T atomic_update(T* address, Update update) {
  before_atomic(address, sizeof(T), __builtin_return_address(0));
  const T former = *address;
  const T value = update(former);
  *address = value;
  after_atomic(value != former);
  return former;
}

template <class T>
using Same = std::common_type_t<T>;  // takes no part in deduction: atomicAdd(&count, 1) with an unsigned count

}  // namespace emu

inline void __threadfence() { emu::fence(); }
inline void __threadfence_block() { emu::fence(); }
inline void __threadfence_system() { emu::fence(); }
inline void __nanosleep(unsigned) { emu::let_others_run(); }

// name(address, value): *address becomes new_value, an expression of the former value and of value.
#define EMU_ATOMIC(name, new_value)                                                          \
  template <class T>                                                                         \
  __attribute__((always_inline)) inline T name(T* address, emu::Same<T> value) {             \
    return emu::atomic_update(address, [=](T former) { return static_cast<T>(new_value); }); \
  }

EMU_ATOMIC(atomicAdd, former + value)
EMU_ATOMIC(atomicSub, former - value)
EMU_ATOMIC(atomicMin, value < former ? value : former)
EMU_ATOMIC(atomicMax, former < value ? value : former)
EMU_ATOMIC(atomicAnd, former& value)
EMU_ATOMIC(atomicOr, former | value)
EMU_ATOMIC(atomicXor, former ^ value)
EMU_ATOMIC(atomicInc, former >= value ? 0 : former + 1)
EMU_ATOMIC(atomicDec, former == 0 || former > value ? value : former - 1)

#undef EMU_ATOMIC

template <class T>
__attribute__((always_inline)) inline T atomicExch(T* address, emu::Same<T> value) {
  return emu::atomic_update(address, [=](T) { return value; });
}

template <class T>
__attribute__((always_inline)) inline T atomicCAS(T* address, emu::Same<T> expected, emu::Same<T> value) {
  return emu::atomic_update(address, [=](T former) { return former == expected ? value : former; });
}
