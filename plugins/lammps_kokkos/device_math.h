// The formulas of the core, compiled for the device as well: to be included before any other header of the core.
#pragma once

#include <Kokkos_Core.hpp>

#ifdef QNEP_INLINE
#error "device_math.h must come before descriptor_math.h"
#endif
#define QNEP_INLINE KOKKOS_FORCEINLINE_FUNCTION

#include "descriptor_math.h"
