// Neighbours of the owned atoms in the form of the core, for one mapping from atom types to elements.
#pragma once

#include <vector>

#include "potential.h"

namespace LAMMPS_NS {

class Atom;
class NeighList;

/// Built when LAMMPS builds its list, used until then; shared by models that list their elements in the same order.
class TypedNeighbors {
public:
    /// type_map: [n_types + 1], element index of a LAMMPS type (from 1), -1 for types that are not part of the model.
    TypedNeighbors(std::vector<int> type_map, int n_elements);

    const std::vector<int> &type_map() const { return type_map_; }
    /// Throws qnep::InputError.
    void update(const Atom &atom, const NeighList &list);
    /// Whether the atoms still are what they were at the last update: Monte Carlo changes them between two lists.
    bool has_types_of(const Atom &atom) const;
    /// Positions of now, types and counts of the last update.
    qnep::Atoms atoms(const Atom &atom) const;
    const qnep::NeighborList &list() const { return list_; }
    const std::vector<int> &types() const { return types_; }  // [n_total]
    int n_owned() const { return n_owned_; }
    int n_total() const { return static_cast<int>(types_.size()); }
    double memory_usage() const;

private:
    std::vector<int> type_map_;
    int n_elements_;
    int n_owned_ = 0;
    std::vector<int> types_;  // [n_total]
    qnep::NeighborList list_;
};

}  // namespace LAMMPS_NS
