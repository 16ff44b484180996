// Announces styles to LAMMPS; it includes this file twice, see qnep.cmake.
#ifdef FIX_CLASS
// clang-format off
FixStyle(qnep/conp,FixQNEPConp);
FixStyle(qnep/efield,FixQNEPEfield);
// clang-format on
#else
#include "fix_qnep_conp.h"
#include "fix_qnep_efield.h"
#endif
