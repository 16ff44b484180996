// Announces styles to LAMMPS; it includes this file twice, see qnep.cmake.
#ifdef COMPUTE_CLASS
// clang-format off
ComputeStyle(qnep/atom,ComputeQNEPAtom);
// clang-format on
#else
#include "compute_qnep_atom.h"
#endif
