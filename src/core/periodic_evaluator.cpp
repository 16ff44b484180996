#include "periodic_evaluator.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>

#include "parallel.h"

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
    ghosts_.clear();
    std::unordered_map<ImageKey, int, ImageHash> images;
    std::vector<int> neighbor(n_pairs);
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
            ghosts_.push_back({second[p], {shift[0], shift[1], shift[2]}});
            types_.push_back(types_[second[p]]);
        }
        neighbor[p] = entry->second;
    }
    const Atoms atoms{n_atoms, static_cast<int>(types_.size()), nullptr, types_.data()};
    neighbors_.assign_pairs(atoms, model().n_types(), n_pairs, first, neighbor.data());
    sort_ghosts(n_atoms);
    n_atoms_ = n_atoms;
}

// Which images an atom has, so that threads can sum them back without writing to one place.
void PeriodicEvaluator::sort_ghosts(int n_atoms) {
    ghost_starts_.assign(n_atoms + 1, 0);
    for (const Ghost &ghost : ghosts_)
        ++ghost_starts_[ghost.owner + 1];
    std::partial_sum(ghost_starts_.begin(), ghost_starts_.end(), ghost_starts_.begin());
    ghosts_of_atoms_.resize(ghosts_.size());
    std::vector<int> next(ghost_starts_.begin(), ghost_starts_.end() - 1);
    for (std::size_t g = 0; g < ghosts_.size(); ++g)
        ghosts_of_atoms_[next[ghosts_[g].owner]++] = static_cast<int>(g);
}

std::size_t PeriodicEvaluator::memory() const {
    return neighbors_.memory() + ghosts_.capacity() * (sizeof(Ghost) + sizeof(int)) + types_.capacity() * sizeof(int) +
           positions_.capacity() * sizeof(double);
}

Atoms PeriodicEvaluator::place_atoms(const double *positions, const Cell &cell) {
    const auto bad = std::find_if_not(positions, positions + 3 * static_cast<std::size_t>(n_atoms_),
                                      [](double x) { return std::isfinite(x); });
    if (bad != positions + 3 * static_cast<std::size_t>(n_atoms_)) {
        throw InputError("positions must be finite, got " + std::to_string(*bad) + " for atom " +
                         std::to_string((bad - positions) / 3));
    }
    positions_.resize(3 * types_.size());
    std::copy(positions, positions + 3 * static_cast<std::size_t>(n_atoms_), positions_.begin());
    parallel_ranges(n_threads_, ghosts_.size(), [&](std::size_t begin, std::size_t stop, int) {
        for (std::size_t g = begin; g < stop; ++g) {
            const Ghost &ghost = ghosts_[g];
            double *to = positions_.data() + 3 * (n_atoms_ + g);
            for (int c = 0; c < 3; ++c) {
                to[c] = positions[3 * static_cast<std::size_t>(ghost.owner) + c] + ghost.shift[0] * cell[0][c] +
                        ghost.shift[1] * cell[1][c] + ghost.shift[2] * cell[2][c];
            }
        }
    });
    return {n_atoms_, static_cast<int>(types_.size()), positions_.data(), types_.data()};
}

// Adds what was booked on images to their owners and drops the images.
void PeriodicEvaluator::fold_ghosts(std::vector<double> &values, int width) const {
    const double *images = values.data() + static_cast<std::size_t>(n_atoms_) * width;
    parallel_ranges(n_threads_, n_atoms_, [&](std::size_t begin, std::size_t stop, int) {
        for (std::size_t i = begin; i < stop; ++i) {
            for (int g = ghost_starts_[i]; g < ghost_starts_[i + 1]; ++g) {
                const double *from = images + static_cast<std::size_t>(ghosts_of_atoms_[g]) * width;
                for (int c = 0; c < width; ++c)
                    values[i * width + c] += from[c];
            }
        }
    });
    values.resize(static_cast<std::size_t>(n_atoms_) * width);
}

Evaluation PeriodicEvaluator::evaluate(const double *positions, const Cell &cell, const EvaluationOptions &options) {
    if (model().kind != ModelKind::potential) {
        throw InputError("a model of energies is needed, got " + model().token());
    }
    const Atoms atoms = place_atoms(positions, cell);
    Evaluation result;
    result.energies.resize(n_atoms_);
    ForceOutput output;
    if (options.wants_forces) {
        result.forces.resize(3 * types_.size());
        result.virial.resize(9);
        output.forces = result.forces.data();
        output.virial = result.virial.data();
    }
    if (options.wants_atom_virials) {
        result.atom_virials.resize(9 * types_.size());
        output.atom_virials = result.atom_virials.data();
    }
    if (model().has_charges()) {
        add_charges(positions, cell, atoms, options, result, output);
    } else {
        if (options.wants_born_charges) {
            throw InputError("Born effective charges need a model with charges, got " + model().token());
        }
        potential_.compute(atoms, neighbors_, result.energies.data(), output);
    }
    if (options.wants_forces) fold_ghosts(result.forces, 3);
    if (options.wants_atom_virials) fold_ghosts(result.atom_virials, 9);
    result.energy = std::accumulate(result.energies.begin(), result.energies.end(), 0.0);
    return result;
}

void PeriodicEvaluator::prepare_reciprocal_sum(const Cell &cell, const EvaluationOptions &options) {
    const std::string key = options.kspace + " " + std::to_string(options.accuracy) + " " + std::to_string(n_atoms_);
    if (key != reciprocal_key_) {
        reciprocal_ = make_wanted_sum(options, model().ewald_alpha(), n_atoms_, cell, n_threads_, precision_);
        reciprocal_key_ = key;
    }
    reciprocal_->set_cell(cell);
}

void PeriodicEvaluator::add_charges(const double *positions, const Cell &cell, const Atoms &atoms,
                                    const EvaluationOptions &options, Evaluation &result, const ForceOutput &output) {
    prepare_reciprocal_sum(cell, options);
    result.charges.resize(types_.size());
    result.potentials.resize(n_atoms_);
    std::vector<double> &charges = result.charges;
    potential_.network_pass(atoms, neighbors_, result.energies.data(), charges.data());

    // Neutrality: the same shift for every atom.
    const double raw = std::accumulate(charges.begin(), charges.begin() + n_atoms_, 0.0);
    const double shift = (options.total_charge - raw) / n_atoms_;
    for (int i = 0; i < n_atoms_; ++i)
        charges[i] += shift;
    for (std::size_t g = 0; g < ghosts_.size(); ++g)
        charges[n_atoms_ + g] = charges[ghosts_[g].owner];

    const ReciprocalOutput reciprocal{result.energies.data(), result.potentials.data(), output.forces, output.virial,
                                      output.atom_virials};
    reciprocal_->compute(n_atoms_, positions, charges.data(), reciprocal);
    if (model().charge_mode == 1) {
        potential_.real_space_coulomb(atoms, neighbors_, charges.data(), result.energies.data(),
                                      result.potentials.data(), output);
    }
    charges.resize(n_atoms_);
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
        result.born_charges.resize(9 * types_.size());
        potential_.born_effective_charges(atoms, neighbors_, result.born_charges.data());
        fold_ghosts(result.born_charges, 9);
        const double sqrt_epsilon = model().parameters[model().sqrt_epsilon_offset()];
        for (int i = 0; i < n_atoms_; ++i) {
            for (int c = 0; c < 9; c += 4)
                result.born_charges[9 * i + c] += sqrt_epsilon * charges[i];
        }
    }
}

std::vector<double> PeriodicEvaluator::descriptors(const double *positions, const Cell &cell) {
    std::vector<double> values(static_cast<std::size_t>(n_atoms_) * model().n_descriptors());
    potential_.descriptors(place_atoms(positions, cell), neighbors_, values.data());
    return values;
}

std::vector<double> PeriodicEvaluator::tensor(const double *positions, const Cell &cell) {
    std::vector<double> values(9);
    potential_.tensor(place_atoms(positions, cell), neighbors_, values.data());
    if (model().kind == ModelKind::dipole) values.resize(3);
    return values;
}

}  // namespace qnep
