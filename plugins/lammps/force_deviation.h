// How far the models of a committee disagree about the forces.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "pointers.h"

namespace LAMMPS_NS {

/// sigma_i = sqrt(1/M sum_m |F_i^m - mean F_i|^2) over M models (Zhang et al., Comput. Phys. Commun. 253, 107206
/// (2020), doi:10.1016/j.cpc.2020.107206). forces: M arrays [n_atoms][3], eV/Å. Returns [n_atoms], eV/Å.
std::vector<double> force_deviations(const std::vector<std::vector<double>> &forces, int n_atoms);

/// The model-deviation file: one line per call with step, maximum, minimum and mean over all atoms of the model.
class DeviationFile : protected Pointers {
public:
    DeviationFile(LAMMPS *lammps, std::string name, bool appends);
    ~DeviationFile() override;
    DeviationFile(const DeviationFile &) = delete;
    DeviationFile &operator=(const DeviationFile &) = delete;

    /// Nothing is written twice for one step: a second `run` command evaluates the last step of the first again.
    /// deviations: [n_owned], eV/Å; types: [>= n_owned], negative for atoms that are left out. Called by all ranks.
    void write(bigint step, const std::vector<double> &deviations, const std::vector<int> &types);

private:
    void open();

    std::string name_;
    bool appends_;
    bigint last_step_ = -1;
    std::FILE *file_ = nullptr;  // on rank 0, from the first line on
};

}  // namespace LAMMPS_NS
