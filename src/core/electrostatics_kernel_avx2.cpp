#define QNEP_SIMD_NAMESPACE electrostatics_avx2
#define QNEP_SIMD_BYTES 32
#define QNEP_SIMD_NAME "avx2"
#include "electrostatics_kernels_impl.h"
