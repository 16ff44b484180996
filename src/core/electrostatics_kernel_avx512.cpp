#define QNEP_SIMD_NAMESPACE electrostatics_avx512
#define QNEP_SIMD_BYTES 64
#define QNEP_SIMD_NAME "avx512"
#include "electrostatics_kernels_impl.h"
