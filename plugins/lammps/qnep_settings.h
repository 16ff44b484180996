// The keywords of `pair_style qnep`.
#pragma once

#include <array>
#include <string>

#include "lmptype.h"
#include "potential.h"

namespace LAMMPS_NS {

class LAMMPS;

enum class KSpaceMethod {
    pppm,    // particle mesh of LAMMPS
    ewald,   // Ewald sum of LAMMPS, converged to an accuracy
    direct,  // the sum over the k vectors of the model's definition, |k| < 2 pi alpha
};

struct QNEPSettings {
    KSpaceMethod kspace = KSpaceMethod::pppm;
    double kspace_accuracy = 1.0e-5;  // relative, as in `kspace_style pppm accuracy`
    int mesh_order = 0;               // 0: chosen from the accuracy
    std::array<int, 3> mesh{};        // 0: chosen from the accuracy
    double slab_factor = 1.0;         // 1: no slab correction
    double total_charge = 0.0;        // e
    bool removes_net_force = true;    // of the mesh
    bool corrects_mean = true;        // subtract the mean potential in the forces; off only for comparisons
    std::string deviation_file;       // empty: none
    bigint deviation_interval = 0;    // steps
    bool appends_deviation = false;
    std::string grade_file;       // empty: none
    std::string active_set_file;  // of the extrapolation grade; empty: none
    bigint grade_interval = 0;    // steps
    bool shows_timing = false;
    bool has_temperature = false;  // given: 0 K is a temperature too
    qnep::PotentialOptions potential;

    bool has_slab() const { return slab_factor != 1.0; }
};

/// Reads the arguments of the command; stops LAMMPS on all ranks with the keyword, what was wanted and what came.
QNEPSettings parse_qnep_settings(LAMMPS *lammps, int narg, char **arg);

}  // namespace LAMMPS_NS
