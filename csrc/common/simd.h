// How CPU loops are compiled: once for any x86-64 and again for AVX2 + FMA and for AVX-512, chosen when the library
// loads.
#pragma once

// The levels are named by micro-architecture because "avx2" would not include FMA, which box_math's exp needs.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define SSD_HAS_CLONES
#define SSD_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define SSD_CLONES
#endif
