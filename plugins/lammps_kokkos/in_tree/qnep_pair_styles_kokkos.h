// Announces styles to LAMMPS; it includes this file twice, see qnep.cmake.
#ifdef PAIR_CLASS
// clang-format off
PairStyle(qnep/kk,PairQNEPKokkos<LMPDeviceType>);
PairStyle(qnep/kk/device,PairQNEPKokkos<LMPDeviceType>);
PairStyle(qnep/kk/host,PairQNEPKokkos<LMPHostType>);
// clang-format on
#else
#include "pair_qnep_kokkos.h"
#endif
