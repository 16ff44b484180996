// The arguments of `fix qnep/conp`.
#pragma once

#include <string>
#include <vector>

#include "electrodes.h"

namespace LAMMPS_NS {

class LAMMPS;

struct ConpSettings {
    qnep::ElectrodeOptions options;      // without alpha, threads and share
    std::vector<std::string> variables;  // [n_electrodes], equal-style; empty for a number
    std::vector<int> group_bits;         // of the electrodes; without fixed groups at most one: atoms that always count
};

/// Stops LAMMPS on all ranks with the keyword, what was wanted and what came.
ConpSettings parse_conp_settings(LAMMPS *lammps, int narg, char **arg);

}  // namespace LAMMPS_NS
