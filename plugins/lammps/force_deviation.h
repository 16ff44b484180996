// How far the models of a committee disagree about the forces.
#pragma once

#include <vector>

namespace LAMMPS_NS {

/// sigma_i = sqrt(1/M sum_m |F_i^m - mean F_i|^2) over M models (Zhang et al., Comput. Phys. Commun. 253, 107206
/// (2020), doi:10.1016/j.cpc.2020.107206). forces: M arrays [n_atoms][3], eV/Å. Returns [n_atoms], eV/Å.
std::vector<double> force_deviations(const std::vector<std::vector<double>> &forces, int n_atoms);

}  // namespace LAMMPS_NS
