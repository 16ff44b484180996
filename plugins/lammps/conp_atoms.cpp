#include "conp_atoms.h"

#include <algorithm>
#include <numeric>

#include "atom.h"
#include "comm.h"
#include "domain.h"

namespace LAMMPS_NS {

namespace {
constexpr int width = 6;  // identifier, position, type, group
}

ConpAtoms::ConpAtoms(LAMMPS *lammps): Pointers(lammps) {}

int ConpAtoms::group_of(int i, const std::vector<int> &group_bits) const {
    int found = -1;
    for (std::size_t g = 0; g < group_bits.size(); ++g) {
        if (atom->mask[i] & group_bits[g]) {
            found = found == -1 ? static_cast<int>(g) : several_groups;
        }
    }
    return found;
}

void ConpAtoms::gather(const std::vector<int> &group_bits) {
    n_local_ = atom->nlocal;
    counts_.resize(comm->nprocs);
    starts_.resize(comm->nprocs);
    MPI_Allgather(&n_local_, 1, MPI_INT, counts_.data(), 1, MPI_INT, world);
    std::exclusive_scan(counts_.begin(), counts_.end(), starts_.begin(), 0);
    const int n = starts_.back() + counts_.back();

    std::vector<double> owned(std::size_t(width) * n_local_), all(std::size_t(width) * n);
    for (int i = 0; i < n_local_; ++i) {
        double *row = &owned[std::size_t(width) * i];
        row[0] = static_cast<double>(atom->tag[i]);
        for (int d = 0; d < 3; ++d) {
            row[1 + d] = atom->x[i][d] - domain->boxlo[d];
        }
        row[4] = atom->type[i] - 1;
        row[5] = group_of(i, group_bits);
    }
    std::vector<int> counts(counts_), starts(starts_);
    for (int rank = 0; rank < comm->nprocs; ++rank) {
        counts[rank] *= width;
        starts[rank] *= width;
    }
    MPI_Allgatherv(owned.data(), width * n_local_, MPI_DOUBLE, all.data(), counts.data(), starts.data(), MPI_DOUBLE,
                   world);

    std::vector<int> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](int a, int b) { return all[std::size_t(width) * a] < all[std::size_t(width) * b]; });
    place_.resize(n);
    positions_.resize(3 * std::size_t(n));
    types_.resize(n);
    groups_.resize(n);
    tags_.resize(n);
    for (int k = 0; k < n; ++k) {
        const double *row = &all[std::size_t(width) * order[k]];
        place_[order[k]] = k;
        tags_[k] = static_cast<tagint>(row[0]);
        std::copy_n(row + 1, 3, &positions_[3 * std::size_t(k)]);
        types_[k] = static_cast<int>(row[4]);
        groups_[k] = static_cast<int>(row[5]);
    }
    const auto mine = place_.begin() + starts_[comm->me];
    rows_.assign(mine, mine + n_local_);
}

void ConpAtoms::gather_values(const double *values, std::vector<double> &all) const {
    std::vector<double> gathered(place_.size());
    // LAMMPS's MPI for one process takes no pointers to constants.
    MPI_Allgatherv(const_cast<double *>(values), n_local_, MPI_DOUBLE, gathered.data(),
                   const_cast<int *>(counts_.data()), const_cast<int *>(starts_.data()), MPI_DOUBLE, world);
    all.resize(place_.size());
    for (std::size_t p = 0; p < place_.size(); ++p) {
        all[place_[p]] = gathered[p];
    }
}

}  // namespace LAMMPS_NS
