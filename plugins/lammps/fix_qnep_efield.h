// fix qnep/efield: a uniform electric field acting through Born effective charges.
#pragma once

#include "fix.h"

namespace LAMMPS_NS {

class PairQNEP;

/// F_i^b += sum_a E^a Z_i^ab, E in V/Å (qNEP paper, arXiv:2601.19034).
class FixQNEPEfield : public Fix {
public:
    FixQNEPEfield(LAMMPS *lammps, int narg, char **arg);
    int setmask() override;
    void init() override;
    void setup(int vflag) override;
    void min_setup(int vflag) override;
    void post_force(int vflag) override;
    void min_post_force(int vflag) override;
    double compute_vector(int component) override;

private:
    PairQNEP *pair_ = nullptr;
    double field_[3];
    double total_force_[3] = {};
};

}  // namespace LAMMPS_NS
