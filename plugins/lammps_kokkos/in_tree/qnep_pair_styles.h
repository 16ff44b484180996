// Announces styles to LAMMPS; it includes this file twice, see qnep.cmake.
#ifdef PAIR_CLASS
// clang-format off
PairStyle(qnep,PairQNEP);
// clang-format on
#else
#include "pair_qnep.h"
#endif
