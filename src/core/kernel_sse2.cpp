#define QNEP_SIMD_NAMESPACE sse2
#define QNEP_SIMD_BYTES 16
#include "atom_kernel_simd.h"
