#include "fix_qnep_efield.h"

#include <algorithm>

#include "atom.h"
#include "error.h"
#include "find_pair_qnep.h"
#include "pair_qnep.h"
#include "update.h"

namespace LAMMPS_NS {

FixQNEPEfield::FixQNEPEfield(LAMMPS *lammps, int narg, char **arg): Fix(lammps, narg, arg) {
    if (narg != 6) {
        error->all(FLERR, "fix qnep/efield: wanted three field components in V/Angstrom, got {} argument(s)", narg - 3);
    }
    for (int d = 0; d < 3; ++d) {
        if (!utils::is_double(arg[3 + d])) {
            error->all(FLERR, "fix qnep/efield: wanted a number for a field component in V/Angstrom, got {}",
                       arg[3 + d]);
        }
        field_[d] = utils::numeric(FLERR, arg[3 + d], false, lmp);
    }
    vector_flag = 1;
    size_vector = 3;
    extvector = 1;
    global_freq = 1;
}

int FixQNEPEfield::setmask() {
    return FixConst::POST_FORCE | FixConst::MIN_POST_FORCE;
}

void FixQNEPEfield::init() {
    if (utils::strmatch(update->integrate_style, "^respa")) {
        error->all(FLERR, "fix qnep/efield: wanted run_style verlet, got {}", update->integrate_style);
    }
    pair_ = find_pair_qnep(lmp, "fix qnep/efield");
    if (!pair_->drives_charges()) {
        error->all(FLERR, "fix qnep/efield: wanted a qNEP model to drive the run (the first of pair_coeff), got one "
                          "without charges");
    }
}

void FixQNEPEfield::setup(int vflag) {
    post_force(vflag);
}

void FixQNEPEfield::min_setup(int vflag) {
    post_force(vflag);
}

void FixQNEPEfield::min_post_force(int vflag) {
    post_force(vflag);
}

void FixQNEPEfield::post_force(int /*vflag*/) {
    const std::vector<double> &born_charges = pair_->born_effective_charges();
    std::fill_n(total_force_, 3, 0.0);
    for (int i = 0; i < atom->nlocal; ++i) {
        if ((atom->mask[i] & groupbit) == 0) {
            continue;
        }
        const double *z = &born_charges[9 * static_cast<std::size_t>(i)];
        for (int b = 0; b < 3; ++b) {
            const double added =
                pair_->energy_unit() * (field_[0] * z[b] + field_[1] * z[3 + b] + field_[2] * z[6 + b]);
            atom->f[i][b] += added;
            total_force_[b] += added;
        }
    }
}

/// Total force added, of all ranks.
double FixQNEPEfield::compute_vector(int component) {
    double total = 0.0;
    MPI_Allreduce(&total_force_[component], &total, 1, MPI_DOUBLE, MPI_SUM, world);
    return total;
}

}  // namespace LAMMPS_NS
