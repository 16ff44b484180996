// All atoms on all ranks, in the order of their identifiers.
#pragma once

#include <vector>

#include "pointers.h"

namespace LAMMPS_NS {

/// Positions, types and groups of all atoms, the same on every rank. Meant for some 10^4 atoms.
class ConpAtoms : protected Pointers {
public:
    explicit ConpAtoms(LAMMPS *lammps);

    /// group_bits: of the electrodes; `several_groups` marks atoms of more than one. All ranks together.
    void gather(const std::vector<int> &group_bits);
    /// values: [nlocal] of the atoms as they were at the last `gather`; all: [n].
    void gather_values(const double *values, std::vector<double> &all) const;

    static constexpr int several_groups = -2;

    int n() const { return static_cast<int>(types_.size()); }
    const std::vector<double> &positions() const { return positions_; }  // [n][3], Å, from the origin of the box
    const std::vector<int> &types() const { return types_; }             // [n], from 0
    const std::vector<int> &groups() const { return groups_; }           // [n], index of the electrode or -1
    const std::vector<tagint> &tags() const { return tags_; }            // [n]
    const std::vector<int> &rows() const { return rows_; }               // [nlocal], of this rank's atoms

private:
    int group_of(int i, const std::vector<int> &group_bits) const;

    int n_local_ = 0;
    std::vector<int> counts_, starts_;  // [n_ranks], atoms
    std::vector<int> place_;            // [n], row of the atom at each place of what was gathered
    std::vector<double> positions_;
    std::vector<int> types_, groups_, rows_;
    std::vector<tagint> tags_;
};

}  // namespace LAMMPS_NS
