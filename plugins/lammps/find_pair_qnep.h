// The pair style that other styles of qnep ask for results.
#pragma once

namespace LAMMPS_NS {

class LAMMPS;
class PairQNEP;

/// The one pair style qnep in use, also below a hybrid style; stops LAMMPS with the name of the `asker` otherwise.
PairQNEP *find_pair_qnep(LAMMPS *lammps, const char *asker);

}  // namespace LAMMPS_NS
