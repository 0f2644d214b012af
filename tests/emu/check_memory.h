// check_memory.h: the check of an access, which the compiler's hooks and the atomics ask for.
#pragma once

namespace emu {

enum class AccessKind { kRead, kWrite, kAtomic };

// caller: the return address in the kernel's code. Returns whether it is device memory.
bool check_access(const void* address, int bytes, AccessKind kind, const void* caller);

}  // namespace emu
