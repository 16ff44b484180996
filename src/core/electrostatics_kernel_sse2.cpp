#define QNEP_SIMD_NAMESPACE electrostatics_sse2
#define QNEP_SIMD_BYTES 16
#define QNEP_SIMD_NAME "sse2"
#include "electrostatics_kernels_impl.h"
