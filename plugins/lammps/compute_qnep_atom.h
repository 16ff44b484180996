// compute qnep/atom: per-atom results of pair_style qnep beyond energies, forces and charges.
#pragma once

#include <vector>

#include "compute.h"

namespace LAMMPS_NS {

class PairQNEP;

class ComputeQNEPAtom : public Compute {
public:
    ComputeQNEPAtom(LAMMPS *lammps, int narg, char **arg);
    ~ComputeQNEPAtom() override;
    void init() override;
    void compute_peratom() override;
    double memory_usage() override;

private:
    enum class Quantity { potential, born, deviation, grade };
    static int width(Quantity quantity);
    void find_pair();
    void allocate();
    double *row(int i);
    const std::vector<double> &values_of(Quantity quantity);
    void fill(Quantity quantity, int first_column);

    PairQNEP *pair_ = nullptr;  // as find_pair() found it; a pair_style command makes another one
    std::vector<Quantity> quantities_;
    int n_columns_ = 0;
    int n_allocated_ = 0;
};

}  // namespace LAMMPS_NS
