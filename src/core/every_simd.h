// Functions compiled for several instruction sets, the best of which the loader takes: for loops that the compiler
// vectorizes by itself. One binary serves processors with and without wide registers.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define QNEP_EVERY_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define QNEP_EVERY_SIMD
#endif
/// What such a function calls must be part of it, or it would be compiled for the plainest processor.
#define QNEP_INLINE inline __attribute__((always_inline))
