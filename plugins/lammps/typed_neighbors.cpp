#include "typed_neighbors.h"

#include <utility>

#include "atom.h"
#include "neigh_list.h"

namespace LAMMPS_NS {

TypedNeighbors::TypedNeighbors(std::vector<int> type_map, int n_elements):
    type_map_(std::move(type_map)), n_elements_(n_elements) {}

qnep::Atoms TypedNeighbors::atoms(const Atom &atom) const {
    qnep::Atoms atoms;
    atoms.n_owned = n_owned_;
    atoms.n_total = n_total();
    atoms.positions = atoms.n_total > 0 ? &atom.x[0][0] : nullptr;  // LAMMPS keeps [nmax][3] in one block
    atoms.types = types_.data();
    return atoms;
}

void TypedNeighbors::update(const Atom &atom, const NeighList &list) {
    n_owned_ = atom.nlocal;
    types_.resize(atom.nlocal + atom.nghost);
    for (std::size_t i = 0; i < types_.size(); ++i) {
        types_[i] = type_map_[atom.type[i]];
    }
    list_.assign(atoms(atom), n_elements_, list.inum, list.ilist, list.numneigh, list.firstneigh, NEIGHMASK);
}

bool TypedNeighbors::has_types_of(const Atom &atom) const {
    for (std::size_t i = 0; i < types_.size(); ++i) {
        if (types_[i] != type_map_[atom.type[i]]) {
            return false;
        }
    }
    return true;
}

double TypedNeighbors::memory_usage() const {
    return static_cast<double>(list_.memory() + types_.capacity() * sizeof(int));
}

}  // namespace LAMMPS_NS
