#include "periodic_evaluator.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>

#include "electrostatics_cell.h"

namespace qnep {

namespace {

// One image of one atom.
struct ImageKey {
    int atom;
    std::int32_t shift[3];
    bool operator==(const ImageKey &other) const {
        return atom == other.atom && std::equal(shift, shift + 3, other.shift);
    }
};

struct ImageHash {
    std::size_t operator()(const ImageKey &key) const {
        std::uint64_t hash = static_cast<std::uint32_t>(key.atom);
        for (std::int32_t s : key.shift)
            hash = hash * 0x9E3779B97F4A7C15ull + static_cast<std::uint32_t>(s);
        return static_cast<std::size_t>(hash ^ (hash >> 29));
    }
};

void require_index(int value, int limit, const char *what) {
    if (value < 0 || value >= limit) {
        throw InputError(std::string(what) + " must be in 0 ... " + std::to_string(limit - 1) + ", got " +
                         std::to_string(value));
    }
}

std::unique_ptr<ReciprocalSum> make_wanted_sum(const EvaluationOptions &options, double alpha, int n_atoms,
                                               const Cell &cell, int n_threads, Precision precision) {
    if (options.kspace == "auto")
        return make_reciprocal_sum(alpha, n_atoms, cell, options.accuracy, n_threads, {}, precision);
    if (options.kspace == "ewald") return make_ewald(alpha, n_threads, {}, precision);
    if (options.kspace == "pppm") return make_pppm(alpha, options.accuracy, n_threads, {}, precision);
    throw InputError("kspace must be auto, ewald or pppm, got '" + options.kspace + "'");
}

}  // namespace

PeriodicEvaluator::PeriodicEvaluator(std::shared_ptr<const Model> model, const PotentialOptions &options):
    potential_(std::move(model), options), n_threads_(options.n_threads), precision_(options.precision) {}

void PeriodicEvaluator::set_neighbors(int n_atoms, const std::int32_t *types, std::size_t n_pairs,
                                      const std::int32_t *first, const std::int32_t *second,
                                      const std::int32_t *shifts) {
    n_atoms_ = 0;  // stays so if an exception leaves this half done
    types_.assign(types, types + n_atoms);
    for (int type : types_)
        require_index(type, model().n_types(), "types");
    images_.clear();
    std::unordered_map<ImageKey, int, ImageHash> images;
    std::vector<int> neighbor(n_pairs), owners(n_atoms);
    std::iota(owners.begin(), owners.end(), 0);
    for (std::size_t p = 0; p < n_pairs; ++p) {
        require_index(first[p], n_atoms, "indices of neighbours");
        require_index(second[p], n_atoms, "indices of neighbours");
        const std::int32_t *shift = shifts + 3 * p;
        if (shift[0] == 0 && shift[1] == 0 && shift[2] == 0) {
            neighbor[p] = second[p];
            continue;
        }
        const ImageKey key{second[p], {shift[0], shift[1], shift[2]}};
        const auto [entry, is_new] = images.try_emplace(key, static_cast<int>(types_.size()));
        if (is_new) {
            images_.push_back({second[p], {shift[0], shift[1], shift[2]}});
            owners.push_back(second[p]);
            types_.push_back(types_[second[p]]);
        }
        neighbor[p] = entry->second;
    }
    const Atoms atoms{n_atoms, static_cast<int>(types_.size()), nullptr, types_.data()};
    neighbors_.assign_pairs(atoms, model().n_types(), n_pairs, first, neighbor.data(), owners.data());
    n_atoms_ = n_atoms;
}

std::size_t PeriodicEvaluator::memory() const {
    return neighbors_.memory() + images_.capacity() * sizeof(PeriodicImage) + types_.capacity() * sizeof(int);
}

Atoms PeriodicEvaluator::atoms_at(const double *positions, const Cell &cell) const {
    const auto bad = std::find_if_not(positions, positions + 3 * static_cast<std::size_t>(n_atoms_),
                                      [](double x) { return std::isfinite(x); });
    if (bad != positions + 3 * static_cast<std::size_t>(n_atoms_)) {
        throw InputError("positions must be finite, got " + std::to_string(*bad) + " for atom " +
                         std::to_string((bad - positions) / 3));
    }
    Atoms atoms{n_atoms_, static_cast<int>(types_.size()), positions, types_.data(), images_.data()};
    for (int d = 0; d < 3; ++d)
        std::copy_n(cell[d].begin(), 3, atoms.cell[d]);
    return atoms;
}

Evaluation PeriodicEvaluator::evaluate(const double *positions, const Cell &cell, const EvaluationOptions &options) {
    if (model().kind != ModelKind::potential) {
        throw InputError("a model of energies is needed, got " + model().token());
    }
    const Atoms atoms = atoms_at(positions, cell);
    Evaluation result;
    result.energies.resize(n_atoms_);
    ForceOutput output;
    if (options.wants_forces) {
        result.forces.resize(3 * static_cast<std::size_t>(n_atoms_));
        result.virial.resize(9);
        output.forces = result.forces.data();
        output.virial = result.virial.data();
    }
    if (options.wants_atom_virials) {
        result.atom_virials.resize(9 * static_cast<std::size_t>(n_atoms_));
        output.atom_virials = result.atom_virials.data();
    }
    if (model().has_charges()) {
        add_charges(cell, atoms, options, result, output);
    } else {
        if (options.wants_born_charges) {
            throw InputError("Born effective charges need a model with charges, got " + model().token());
        }
        potential_.compute(atoms, neighbors_, result.energies.data(), output);
    }
    result.energy = std::accumulate(result.energies.begin(), result.energies.end(), 0.0);
    return result;
}

void PeriodicEvaluator::prepare_reciprocal_sum(const Cell &cell, const EvaluationOptions &options) {
    // A choice is kept while the cell changes, so that the energy does not jump, unless it is one that cannot be kept.
    const bool is_huge = ewald_vectors(model().ewald_alpha(), ReciprocalCell(cell).volume) > most_ewald_vectors;
    if (options.kspace != reciprocal_method_ || is_huge != reciprocal_cell_is_huge_ ||
        options.accuracy != reciprocal_accuracy_ || n_atoms_ != reciprocal_n_atoms_) {
        reciprocal_method_.clear();  // should an exception leave this half done
        reciprocal_ = make_wanted_sum(options, model().ewald_alpha(), n_atoms_, cell, n_threads_, precision_);
        reciprocal_method_ = options.kspace;
        reciprocal_accuracy_ = options.accuracy;
        reciprocal_n_atoms_ = n_atoms_;
        reciprocal_cell_is_huge_ = is_huge;
    }
    reciprocal_->set_cell(cell);
}

void PeriodicEvaluator::add_charges(const Cell &cell, const Atoms &atoms, const EvaluationOptions &options,
                                    Evaluation &result, const ForceOutput &output) {
    prepare_reciprocal_sum(cell, options);
    result.charges.resize(n_atoms_);
    result.potentials.resize(n_atoms_);
    std::vector<double> &charges = result.charges;
    potential_.network_pass(atoms, neighbors_, result.energies.data(), charges.data());

    // Neutrality: the same shift for every atom.
    const double raw = std::accumulate(charges.begin(), charges.end(), 0.0);
    const double shift = (options.total_charge - raw) / n_atoms_;
    for (double &charge : charges)
        charge += shift;

    const ReciprocalOutput reciprocal{result.energies.data(), result.potentials.data(), output.forces, output.virial,
                                      output.atom_virials};
    reciprocal_->compute(n_atoms_, atoms.positions, charges.data(), reciprocal);
    if (model().charge_mode == 1) {
        potential_.real_space_coulomb(atoms, neighbors_, charges.data(), result.energies.data(),
                                      result.potentials.data(), output);
    }
    if (options.charge_response) options.charge_response(charges.data(), result.potentials.data());

    if (options.wants_forces || options.wants_atom_virials) {
        // The chain rule through the neutrality shift: dE/dq_i^raw = V_i - mean(V).
        const double mean = options.mean_correction
                                ? std::accumulate(result.potentials.begin(), result.potentials.end(), 0.0) / n_atoms_
                                : 0.0;
        std::vector<double> derivatives(result.potentials);
        for (double &derivative : derivatives)
            derivative -= mean;
        potential_.force_pass(atoms, neighbors_, derivatives.data(), output);
    }
    if (options.wants_born_charges) {
        result.born_charges.resize(9 * static_cast<std::size_t>(n_atoms_));
        potential_.born_effective_charges(atoms, neighbors_, result.born_charges.data());
        const double sqrt_epsilon = model().parameters[model().sqrt_epsilon_offset()];
        for (int i = 0; i < n_atoms_; ++i) {
            for (int c = 0; c < 9; c += 4)
                result.born_charges[9 * i + c] += sqrt_epsilon * charges[i];
        }
    }
}

std::vector<double> PeriodicEvaluator::descriptors(const double *positions, const Cell &cell) {
    std::vector<double> values(static_cast<std::size_t>(n_atoms_) * model().n_descriptors());
    potential_.descriptors(atoms_at(positions, cell), neighbors_, values.data());
    return values;
}

std::vector<double> PeriodicEvaluator::tensor(const double *positions, const Cell &cell) {
    std::vector<double> values(9);
    potential_.tensor(atoms_at(positions, cell), neighbors_, values.data());
    if (model().kind == ModelKind::dipole) values.resize(3);
    return values;
}

}  // namespace qnep
