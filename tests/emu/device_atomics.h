// device_atomics.h: atomics and fences, as kernels call them; names that end with _block hold within a block. Only one
// fiber runs at a time, so a plain update is atomic; all that remains is to tell the checker and to let other threads
// run.
#pragma once

#include <type_traits>

namespace emu {

enum class Scope { kBlock, kDevice };  // there is one device: its scope is the system's

void before_atomic(void* address, int bytes, Scope scope, void* caller);
void after_atomic(bool changed_memory);
void fence(Scope scope);
void let_others_run();  // so that a thread that spins on an atomic does not spin forever

// Never inlined: in the caller, which is checked code, its accesses would be taken for plain ones, and its return
// address tells where in the kernel the atomic stands.
template <Scope scope, class T, class Update>
__attribute__((noinline, no_sanitize("thread"), no_sanitize_coverage)) T atomic_update(T* address, Update update) {
  before_atomic(address, sizeof(T), scope, __builtin_return_address(0));
  const T former = *address;
  const T value = update(former);
  *address = value;
  after_atomic(value != former);
  return former;
}

template <class T>
using Same = std::common_type_t<T>;  // takes no part in deduction: atomicAdd(&count, 1) with an unsigned count

}  // namespace emu

inline void __threadfence() { emu::fence(emu::Scope::kDevice); }
inline void __threadfence_block() { emu::fence(emu::Scope::kBlock); }
inline void __threadfence_system() { emu::fence(emu::Scope::kDevice); }
inline void __nanosleep(unsigned) { emu::let_others_run(); }

// name(address, value): *address becomes new_value, an expression of the former value and of value.
#define EMU_ATOMIC_OF(name, scope, new_value)                                                       \
  template <class T>                                                                                \
  __attribute__((always_inline)) inline T name(T* address, emu::Same<T> value) {                    \
    return emu::atomic_update<scope>(address, [=](T former) { return static_cast<T>(new_value); }); \
  }

#define EMU_CAS_OF(name, scope)                                                                               \
  template <class T>                                                                                          \
  __attribute__((always_inline)) inline T name(T* address, emu::Same<T> expected, emu::Same<T> value) {       \
    return emu::atomic_update<scope>(address, [=](T former) { return former == expected ? value : former; }); \
  }

#define EMU_ATOMIC(name, new_value)                          \
  EMU_ATOMIC_OF(name, emu::Scope::kDevice, new_value)        \
  EMU_ATOMIC_OF(name##_block, emu::Scope::kBlock, new_value) \
  EMU_ATOMIC_OF(name##_system, emu::Scope::kDevice, new_value)

EMU_ATOMIC(atomicAdd, former + value)
EMU_ATOMIC(atomicSub, former - value)
EMU_ATOMIC(atomicMin, value < former ? value : former)
EMU_ATOMIC(atomicMax, former < value ? value : former)
EMU_ATOMIC(atomicAnd, former& value)
EMU_ATOMIC(atomicOr, former | value)
EMU_ATOMIC(atomicXor, former ^ value)
EMU_ATOMIC(atomicInc, former >= value ? 0 : former + 1)
EMU_ATOMIC(atomicDec, former == 0 || former > value ? value : former - 1)
EMU_ATOMIC(atomicExch, ((void)former, value))
EMU_CAS_OF(atomicCAS, emu::Scope::kDevice)
EMU_CAS_OF(atomicCAS_block, emu::Scope::kBlock)
EMU_CAS_OF(atomicCAS_system, emu::Scope::kDevice)

#undef EMU_ATOMIC
#undef EMU_ATOMIC_OF
#undef EMU_CAS_OF
