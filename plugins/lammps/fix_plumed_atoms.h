// The atoms that PLUMED asks for, collected from all ranks to rank 0 and served back.
#pragma once

#include <cstdint>
#include <mpi.h>
#include <vector>

#include "lmptype.h"

namespace QNEP {

/// A changing set of atoms, each owned by one of the ranks, that rank 0 (the root) works on.
///
/// Atoms are numbered by identifier - 1, from 0 to n_atoms - 1. Every member function is collective.
class RequestedAtoms {
public:
    RequestedAtoms(MPI_Comm communicator, int n_atoms);

    bool is_root() const { return rank_ == 0; }

    /// Makes the root's list (sorted, unique) the request; ranks keep what they know when it is the one of before.
    void set(const std::vector<int> &wanted);

    /// Requests every atom.
    void set_all();

    /// Finds which of the requested atoms this rank owns; needed after atoms changed their rank or order.
    /// Returns false, on all ranks, when an atom is missing or owned twice.
    bool locate(const LAMMPS_NS::tagint *identifiers, int n_local);

    bool is_located() const { return located_; }
    void forget_owners() { located_ = false; }

    const std::vector<int> &list() const { return wanted_; }  // the same on every rank
    const std::vector<int> &local() const { return local_; }  // local indices of the requested atoms owned here

    /// Collects `width` numbers per requested atom: `owned` [n_owned, width] in the order of local(), into the rows
    /// of `all` [n_atoms, width] on the root.
    void gather(const std::vector<double> &owned, int width, std::vector<double> &all);

    /// The way back: rows of `all` on the root into `owned`.
    void scatter(const std::vector<double> &all, int width, std::vector<double> &owned);

private:
    void lay_out(int width);

    MPI_Comm communicator_;
    int rank_ = 0;
    int n_atoms_;
    bool located_ = false;
    std::vector<int> wanted_;
    std::vector<char> is_wanted_;  // [n_atoms]
    std::vector<int> local_;
    std::vector<int> rows_;            // root: atom of every collected row, rank by rank
    std::vector<int> counts_;          // root: rows per rank
    std::vector<int> sizes_, starts_;  // root: the same in numbers, for the width of the moment
    std::vector<double> buffer_;
};

}  // namespace QNEP
