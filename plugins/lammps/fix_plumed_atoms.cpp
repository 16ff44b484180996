#include "fix_plumed_atoms.h"

#include <algorithm>
#include <numeric>

namespace QNEP {

RequestedAtoms::RequestedAtoms(MPI_Comm communicator, int n_atoms):
    communicator_(communicator), n_atoms_(n_atoms), is_wanted_(n_atoms, 0) {
    int n_ranks = 1;
    MPI_Comm_rank(communicator_, &rank_);
    MPI_Comm_size(communicator_, &n_ranks);
    counts_.resize(is_root() ? n_ranks : 0);
    sizes_.resize(counts_.size());
    starts_.resize(counts_.size());
}

void RequestedAtoms::set(const std::vector<int> &wanted) {
    int news[2] = {is_root() && wanted != wanted_ ? 1 : 0, static_cast<int>(wanted.size())};
    MPI_Bcast(news, 2, MPI_INT, 0, communicator_);
    if (news[0] == 0) {
        return;
    }
    for (const int atom : wanted_) {
        is_wanted_[atom] = 0;
    }
    if (is_root()) {
        wanted_ = wanted;
    }
    wanted_.resize(news[1]);
    MPI_Bcast(wanted_.data(), news[1], MPI_INT, 0, communicator_);
    for (const int atom : wanted_) {
        is_wanted_[atom] = 1;
    }
    forget_owners();
}

void RequestedAtoms::set_all() {
    std::vector<int> every(n_atoms_);
    std::iota(every.begin(), every.end(), 0);
    set(every);
}

bool RequestedAtoms::locate(const LAMMPS_NS::tagint *identifiers, int n_local) {
    local_.clear();
    std::vector<int> atoms;
    for (int i = 0; i < n_local; ++i) {
        const auto atom = static_cast<int>(identifiers[i] - 1);
        if (atom >= 0 && atom < n_atoms_ && is_wanted_[atom]) {
            local_.push_back(i);
            atoms.push_back(atom);
        }
    }
    int n_owned = static_cast<int>(local_.size());  // not const: LAMMPS's MPI for one process takes no such pointers
    MPI_Gather(&n_owned, 1, MPI_INT, counts_.data(), 1, MPI_INT, 0, communicator_);
    int n_found = 0;
    MPI_Allreduce(&n_owned, &n_found, 1, MPI_INT, MPI_SUM, communicator_);
    if (n_found != static_cast<int>(wanted_.size())) {
        return false;
    }
    rows_.resize(is_root() ? n_found : 0);
    lay_out(1);
    MPI_Gatherv(atoms.data(), n_owned, MPI_INT, rows_.data(), sizes_.data(), starts_.data(), MPI_INT, 0, communicator_);
    located_ = true;
    return true;
}

void RequestedAtoms::lay_out(int width) {
    int start = 0;
    for (std::size_t rank = 0; rank < counts_.size(); ++rank) {
        sizes_[rank] = counts_[rank] * width;
        starts_[rank] = start;
        start += sizes_[rank];
    }
    buffer_.resize(rows_.size() * width);
}

void RequestedAtoms::gather(const std::vector<double> &owned, int width, std::vector<double> &all) {
    lay_out(width);
    MPI_Gatherv(const_cast<double *>(owned.data()), static_cast<int>(owned.size()), MPI_DOUBLE, buffer_.data(),
                sizes_.data(), starts_.data(), MPI_DOUBLE, 0, communicator_);
    for (std::size_t row = 0; row < rows_.size(); ++row) {
        std::copy_n(&buffer_[row * width], width, &all[static_cast<std::size_t>(rows_[row]) * width]);
    }
}

void RequestedAtoms::scatter(const std::vector<double> &all, int width, std::vector<double> &owned) {
    lay_out(width);
    for (std::size_t row = 0; row < rows_.size(); ++row) {
        std::copy_n(&all[static_cast<std::size_t>(rows_[row]) * width], width, &buffer_[row * width]);
    }
    owned.resize(local_.size() * width);
    MPI_Scatterv(buffer_.data(), sizes_.data(), starts_.data(), MPI_DOUBLE, owned.data(),
                 static_cast<int>(owned.size()), MPI_DOUBLE, 0, communicator_);
}

}  // namespace QNEP
