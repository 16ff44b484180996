#define QNEP_SIMD_NAMESPACE avx512
#define QNEP_SIMD_BYTES 32
#include "atom_kernel_simd.h"
