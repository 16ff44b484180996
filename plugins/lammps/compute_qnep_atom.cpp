#include "compute_qnep_atom.h"

#include <map>
#include <string>

#include "atom.h"
#include "error.h"
#include "find_pair_qnep.h"
#include "memory.h"
#include "pair_qnep.h"
#include "update.h"

namespace LAMMPS_NS {

ComputeQNEPAtom::ComputeQNEPAtom(LAMMPS *lammps, int narg, char **arg): Compute(lammps, narg, arg) {
    static const std::map<std::string, Quantity> known{{"potential", Quantity::potential},
                                                       {"born", Quantity::born},
                                                       {"deviation", Quantity::deviation},
                                                       {"grade", Quantity::grade}};
    if (narg < 4) {
        error->all(FLERR, "compute qnep/atom: wanted at least one of potential, born, deviation, grade, got nothing");
    }
    for (int k = 3; k < narg; ++k) {
        const auto quantity = known.find(arg[k]);
        if (quantity == known.end()) {
            error->all(FLERR, "compute qnep/atom: wanted potential, born, deviation or grade, got {}", arg[k]);
        }
        quantities_.push_back(quantity->second);
        n_columns_ += width(quantity->second);
    }
    peratom_flag = 1;
    size_peratom_cols = n_columns_ == 1 ? 0 : n_columns_;
}

ComputeQNEPAtom::~ComputeQNEPAtom() {
    memory->destroy(vector_atom);
    memory->destroy(array_atom);
}

int ComputeQNEPAtom::width(Quantity quantity) {
    return quantity == Quantity::born ? 9 : 1;
}

void ComputeQNEPAtom::init() {
    find_pair();
}

void ComputeQNEPAtom::find_pair() {
    pair_ = find_pair_qnep(lmp, "compute qnep/atom");
    for (const Quantity quantity : quantities_) {
        if (quantity == Quantity::deviation && pair_->n_models() < 2) {
            error->all(FLERR, "compute qnep/atom deviation: wanted at least two model files in pair_coeff, got one");
        }
        if (quantity == Quantity::grade && !pair_->has_active_set()) {
            error->all(FLERR, "compute qnep/atom grade: wanted the keyword grade of pair_style qnep, got none");
        }
        const bool needs_charges = quantity == Quantity::potential || quantity == Quantity::born;
        if (needs_charges && !pair_->drives_charges()) {
            error->all(FLERR, "compute qnep/atom potential and born: wanted a qNEP model to drive the run (the first "
                              "of pair_coeff), got one without charges");
        }
    }
}

void ComputeQNEPAtom::allocate() {
    if (atom->nmax <= n_allocated_) {
        return;
    }
    n_allocated_ = atom->nmax;
    if (n_columns_ == 1) {
        memory->destroy(vector_atom);
        memory->create(vector_atom, n_allocated_, "qnep/atom:vector_atom");
    } else {
        memory->destroy(array_atom);
        memory->create(array_atom, n_allocated_, n_columns_, "qnep/atom:array_atom");
    }
}

double *ComputeQNEPAtom::row(int i) {
    return n_columns_ == 1 ? vector_atom + i : array_atom[i];
}

void ComputeQNEPAtom::compute_peratom() {
    invoked_peratom = update->ntimestep;
    find_pair();  // write_dump calls no init()
    if (!pair_->is_evaluated()) {
        error->all(FLERR, "compute qnep/atom: wanted a force evaluation of the atoms as they are now, got none: run 0 "
                          "first");
    }
    allocate();
    int column = 0;
    for (const Quantity quantity : quantities_) {
        fill(quantity, column);
        column += width(quantity);
    }
}

const std::vector<double> &ComputeQNEPAtom::values_of(Quantity quantity) {
    switch (quantity) {
    case Quantity::born:
        return pair_->born_effective_charges();
    case Quantity::deviation:
        return pair_->deviations();
    case Quantity::grade:
        return pair_->grades();
    default:
        return pair_->potentials();
    }
}

void ComputeQNEPAtom::fill(Quantity quantity, int first_column) {
    const std::vector<double> &values = values_of(quantity);
    const bool has_energy_unit = quantity == Quantity::potential || quantity == Quantity::deviation;
    const double unit = has_energy_unit ? pair_->energy_unit() : 1.0;
    const int n = width(quantity);
    for (int i = 0; i < atom->nlocal; ++i) {
        for (int c = 0; c < n; ++c) {
            const bool is_in_group = (atom->mask[i] & groupbit) != 0;
            row(i)[first_column + c] = is_in_group ? unit * values[static_cast<std::size_t>(n) * i + c] : 0.0;
        }
    }
}

double ComputeQNEPAtom::memory_usage() {
    return static_cast<double>(n_allocated_) * n_columns_ * sizeof(double);
}

}  // namespace LAMMPS_NS
