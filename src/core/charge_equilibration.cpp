#include "charge_equilibration.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "constants.h"
#include "electrostatics_cell.h"
#include "gaussian_pairs.h"
#include "inverse_estimate.h"
#include "model.h"

namespace qnep {
namespace {

double dot(const std::vector<double> &a, const std::vector<double> &b) {
    return dot_product(a.size(), a.data(), b.data());
}

std::string text(double value) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%.3g", value);
    return buffer;
}

// Solves the small symmetric positive system of the constraints by Cholesky's method.
class SmallSystem {
public:
    SmallSystem(std::vector<double> matrix, int size): factor_(std::move(matrix)), size_(size) {
        for (int j = 0; j < size_; ++j) {
            const double original = at(j, j);
            for (int k = 0; k < j; ++k)
                at(j, j) -= at(j, k) * at(j, k);
            if (!(at(j, j) > 1e-12 * original)) {
                throw InputError("constraints of the charges depend on each other or have no atoms, see constraint " +
                                 std::to_string(j));
            }
            at(j, j) = std::sqrt(at(j, j));
            for (int i = j + 1; i < size_; ++i) {
                for (int k = 0; k < j; ++k)
                    at(i, j) -= at(i, k) * at(j, k);
                at(i, j) /= at(j, j);
            }
        }
    }
    std::vector<double> solve(std::vector<double> x) const {
        for (int i = 0; i < size_; ++i) {
            for (int k = 0; k < i; ++k)
                x[i] -= at(i, k) * x[k];
            x[i] /= at(i, i);
        }
        for (int i = size_ - 1; i >= 0; --i) {
            for (int k = i + 1; k < size_; ++k)
                x[i] -= at(k, i) * x[k];
            x[i] /= at(i, i);
        }
        return x;
    }

private:
    double &at(int i, int j) { return factor_[i * size_ + j]; }
    double at(int i, int j) const { return factor_[i * size_ + j]; }
    std::vector<double> factor_;
    int size_;
};

// Constraints as they look through a preconditioner.
struct ConstrainedSpace {
    const ChargeConstraints &constraints;
    int n;
    std::vector<std::vector<double>> directions;  // [count][n], preconditioner times weights
    SmallSystem small;                            // [count][count], weights times directions

    const double *weights(int k) const { return constraints.weights + std::size_t(k) * n; }

    std::vector<double> sums(const std::vector<double> &values) const {
        std::vector<double> sums(constraints.count);
        for (int k = 0; k < constraints.count; ++k)
            sums[k] = dot_product(n, weights(k), values.data());
        return sums;
    }

    /// Adds what the totals lack.
    void meet(std::vector<double> &charges) const {
        std::vector<double> missing = sums(charges);
        for (int k = 0; k < constraints.count; ++k)
            missing[k] = constraints.totals[k] - missing[k];
        const std::vector<double> shares = small.solve(missing);
        for (int k = 0; k < constraints.count; ++k) {
            for (int i = 0; i < n; ++i)
                charges[i] += shares[k] * directions[k][i];
        }
    }
};

template <class Precondition>
ConstrainedSpace make_space(const ChargeConstraints &constraints, int n, const Precondition &precondition) {
    std::vector<std::vector<double>> directions;
    std::vector<double> gram;
    for (int k = 0; k < constraints.count; ++k) {
        const double *weights = constraints.weights + std::size_t(k) * n;
        directions.push_back(precondition(std::vector<double>(weights, weights + n)));
    }
    for (int k = 0; k < constraints.count; ++k) {
        for (int l = 0; l < constraints.count; ++l)
            gram.push_back(dot_product(n, constraints.weights + std::size_t(k) * n, directions[l].data()));
    }
    return {constraints, n, std::move(directions), SmallSystem(gram, constraints.count)};
}

constexpr std::size_t n_remembered = 4;  // solutions

void check_positive(const double *values, int n, const char *what) {
    for (int i = 0; i < n; ++i) {
        if (!(values[i] > 0.0) || !std::isfinite(values[i])) {
            throw InputError(std::string(what) + " must be positive, got " + std::to_string(values[i]) + " for atom " +
                             std::to_string(i));
        }
    }
}

}  // namespace

// Charges change smoothly along a trajectory: a polynomial through the last solutions.
std::vector<double> ChargeHistory::predict(std::size_t n, std::size_t n_points) const {
    std::vector<double> guess(n, 0.0);
    if (solutions_.empty() || solutions_[0].size() != n) return guess;
    constexpr double coefficients[n_remembered][n_remembered] = {
        {1.0, 0.0, 0.0, 0.0}, {2.0, -1.0, 0.0, 0.0}, {3.0, -3.0, 1.0, 0.0}, {4.0, -6.0, 4.0, -1.0}};
    const std::size_t known = repeats_last_ ? 1 : std::min(n_points, solutions_.size());
    for (std::size_t h = 0; h < known; ++h) {
        for (std::size_t i = 0; i < n; ++i)
            guess[i] += coefficients[known - 1][h] * solutions_[h][i];
    }
    return guess;
}

void ChargeHistory::remember(const std::vector<double> &charges) {
    if (!solutions_.empty() && solutions_[0].size() != charges.size()) solutions_.clear();
    if (repeats_last_ && !solutions_.empty()) solutions_.pop_front();
    repeats_last_ = false;
    solutions_.push_front(charges);
    if (solutions_.size() > n_remembered) solutions_.pop_back();
}

class ChargeEquilibration::Implementation {
public:
    explicit Implementation(const EquilibrationOptions &options):
        options_(options), pairs_(options.alpha, options.cutoff) {
        if (!(options.alpha > 0.0)) throw InputError("alpha must be positive, got " + std::to_string(options.alpha));
        if (!(options.tolerance > 0.0)) {
            throw InputError("tolerance of the charges must be positive, got " + std::to_string(options.tolerance));
        }
        if (options.slab_axis < -1 || options.slab_axis > 2) {
            throw InputError("slab axis must be 0, 1, 2 or -1 for none, got " + std::to_string(options.slab_axis));
        }
    }

    EquilibrationResult solve(const GaussianCharges &system, const ChargeConstraints &constraints, bool wants_forces,
                              const double *guess, KnownGradient known);
    EquilibrationResult evaluate(const GaussianCharges &system, const double *charges);
    void reset() {
        history_.clear();
        inverse_.clear();
    }
    void renumber(const std::vector<int> &old_index) {
        history_.clear();
        inverse_.renumber(old_index);
    }
    std::string describe() const { return reciprocal_ ? reciprocal_->describe() : "nothing computed yet"; }

private:
    void prepare(const GaussianCharges &system);
    void prepare_slab();
    void apply(const std::vector<double> &charges, std::vector<double> &potentials);
    std::vector<double> estimate(const std::vector<double> &values) const {
        return inverse_.apply(preconditioner_, values);
    }
    std::vector<double> project(const ConstrainedSpace &space, std::vector<double> &residual,
                                std::vector<double> &multipliers) const;
    void add_gradient(const std::vector<double> &charges, KnownGradient known, std::vector<double> &gradient);
    void minimise(const ChargeConstraints &constraints, KnownGradient known, EquilibrationResult &result);
    void add_forces(EquilibrationResult &result);
    double slab_dipole(const std::vector<double> &charges) const { return dot(charges, heights_); }

    EquilibrationOptions options_;
    GaussianCharges system_;
    std::unique_ptr<ReciprocalSum> reciprocal_;
    int reciprocal_atoms_ = -1;
    std::vector<double> diagonal_;        // [n], V/e: hardness and what the Gaussian's own energy lacks
    std::vector<double> preconditioner_;  // [n], inverse of the whole diagonal
    InverseEstimate inverse_;             // of the matrix on the charges
    GaussianPairs pairs_;                 // this process's share
    std::array<double, 3> normal_{};
    std::vector<double> heights_;  // [n], Å, along the normal; empty without a slab
    double volume_ = 0.0;
    ChargeHistory history_;
};

void ChargeEquilibration::Implementation::prepare(const GaussianCharges &system) {
    if (system.n != system_.n) inverse_.clear();
    check_positive(system.hardnesses, system.n, "hardnesses");
    if (system.widths) check_positive(system.widths, system.n, "widths of the Gaussian charges");
    system_ = system;
    if (!reciprocal_ || reciprocal_atoms_ != system.n) {
        const bool is_auto = options_.kspace == "auto";
        if (!is_auto && options_.kspace != "ewald" && options_.kspace != "pppm") {
            throw InputError("kspace must be auto, ewald or pppm, got '" + options_.kspace + "'");
        }
        const bool ewald = is_auto ? ewald_is_faster(options_.alpha, system.n, system.cell, options_.accuracy)
                                   : options_.kspace == "ewald";
        reciprocal_ = ewald ? make_ewald(options_.alpha, options_.n_threads, options_.share.sum)
                            : make_pppm(options_.alpha, options_.accuracy, options_.n_threads, options_.share.sum);
        reciprocal_atoms_ = system.n;
    }
    reciprocal_->set_cell(system.cell);
    volume_ = ReciprocalCell(system.cell).volume;
    diagonal_.assign(system.hardnesses, system.hardnesses + system.n);
    preconditioner_.resize(system.n);
    for (int i = 0; i < system.n; ++i) {
        const double smeared = 2.0 * options_.alpha / std::sqrt(pi) * coulomb_constant;  // in the reciprocal sum
        const double own = system.widths ? coulomb_constant / (std::sqrt(pi) * system.widths[i]) : smeared;
        diagonal_[i] += own - smeared;
        preconditioner_[i] = 1.0 / (system.hardnesses[i] + own);
    }
    if (system.widths) {
        pairs_.set_pairs(system.n, system.widths,
                         {system.n_pairs, system.has_each_pair_once, system.first, system.second, system.shifts},
                         system.has_new_pairs);
        pairs_.set_positions(system.positions, system.cell);
    }
    prepare_slab();
}

void ChargeEquilibration::Implementation::prepare_slab() {
    heights_.clear();
    if (options_.slab_axis < 0) return;
    const auto &inverse = ReciprocalCell(system_.cell).inverse[options_.slab_axis];
    const double length = std::sqrt(inverse[0] * inverse[0] + inverse[1] * inverse[1] + inverse[2] * inverse[2]);
    for (int c = 0; c < 3; ++c)
        normal_[c] = inverse[c] / length;
    heights_.resize(system_.n);
    for (int i = 0; i < system_.n; ++i) {
        const double *x = system_.positions + 3 * std::size_t(i);
        heights_[i] = normal_[0] * x[0] + normal_[1] * x[1] + normal_[2] * x[2];
    }
}

// Product of charges with the matrix of second derivatives.
void ChargeEquilibration::Implementation::apply(const std::vector<double> &charges, std::vector<double> &potentials) {
    const WorkShare &share = options_.share;
    const int begin = share.begin(system_.n), end = share.end(system_.n);
    std::fill(potentials.begin(), potentials.end(), 0.0);
    for (int i = begin; i < end; ++i)
        potentials[i] = diagonal_[i] * charges[i];
    if (system_.widths) pairs_.apply(charges.data(), potentials.data());
    ReciprocalOutput output;
    output.potentials = potentials.data() + begin;
    reciprocal_->compute(end - begin, system_.positions + 3 * std::size_t(begin), charges.data() + begin, output);
    share.add_up(potentials.size(), potentials.data());
    if (heights_.empty()) return;
    const double field = 4.0 * pi * coulomb_constant / volume_ * slab_dipole(charges);
    for (int i = 0; i < system_.n; ++i)
        potentials[i] += field * heights_[i];
}

// Takes the multipliers' share out of the residual and returns the preconditioned rest, which no constraint sees
// (Gould, Hribar and Nocedal, SIAM J. Sci. Comput. 23, 1376 (2001), doi:10.1137/S1064827598345667).
std::vector<double> ChargeEquilibration::Implementation::project(const ConstrainedSpace &space,
                                                                 std::vector<double> &residual,
                                                                 std::vector<double> &multipliers) const {
    std::vector<double> scaled = estimate(residual);
    const std::vector<double> shares = space.small.solve(space.sums(scaled));
    for (int k = 0; k < space.constraints.count; ++k) {
        const double *weights = space.weights(k);
        multipliers[k] += shares[k];
        for (int i = 0; i < system_.n; ++i) {
            residual[i] -= shares[k] * weights[i];
            scaled[i] -= shares[k] * space.directions[k][i];
        }
    }
    return scaled;
}

// Derivatives of the energy at these charges, [n].
void ChargeEquilibration::Implementation::add_gradient(const std::vector<double> &charges, KnownGradient known,
                                                       std::vector<double> &gradient) {
    constexpr double rounding = 1e-14;  // e; a difference of this size changes derivatives by less than 1e-11 V
    std::vector<double> change(charges);
    double largest = known.gradient ? 0.0 : 1.0;
    for (int i = 0; known.gradient && i < system_.n; ++i) {
        change[i] -= known.charges[i];
        largest = std::max(largest, std::abs(change[i]));
    }
    if (largest > rounding) apply(change, gradient);
    const double *present = known.gradient ? known.gradient : system_.electronegativities;
    for (int i = 0; i < system_.n; ++i)
        gradient[i] += present[i];
}

void ChargeEquilibration::Implementation::minimise(const ChargeConstraints &constraints, KnownGradient known,
                                                   EquilibrationResult &result) {
    const int n = system_.n;
    const ConstrainedSpace space =
        make_space(constraints, n, [&](const std::vector<double> &values) { return estimate(values); });
    std::vector<double> &charges = result.charges;
    space.meet(charges);
    result.multipliers.assign(constraints.count, 0.0);

    std::vector<double> residual(n, 0.0), product(n);
    add_gradient(charges, known, residual);
    std::vector<double> step = project(space, residual, result.multipliers);
    double squared = dot(residual, step);
    for (int i = 0; i < n; ++i)
        step[i] = -step[i];
    // e.H.e = e.r for the error e of charges that meet the constraints, and H is not smaller than the hardness.
    const double softest = *std::min_element(system_.hardnesses, system_.hardnesses + n);
    std::vector<std::pair<std::vector<double>, std::vector<double>>> steps;
    for (;; ++result.n_iterations) {
        result.error_bound = std::sqrt(dot(residual, residual) / n) / softest;
        if (result.error_bound <= options_.tolerance) break;
        if (result.n_iterations >= options_.max_iterations || !std::isfinite(result.error_bound)) {
            throw ConvergenceError("the charges did not converge in " + std::to_string(result.n_iterations) +
                                   " iterations: on average they may be wrong by " + text(result.error_bound) +
                                   " e, wanted were " + text(options_.tolerance) +
                                   " e. Look at distances and hardnesses, or raise max_iterations");
        }
        apply(step, product);
        const double length = squared / dot(step, product);
        for (int i = 0; i < n; ++i) {
            charges[i] += length * step[i];
            residual[i] += length * product[i];
        }
        const std::vector<double> direction = project(space, residual, result.multipliers);
        const double next = dot(residual, direction);
        steps.emplace_back(step, product);
        for (int i = 0; i < n; ++i)
            step[i] = next / squared * step[i] - direction[i];
        squared = next;
    }
    for (const auto &[direction, its_product] :
         steps)  // not before: the preconditioner of one solution must not change
        inverse_.remember(direction, its_product);
    // H.q + chi = residual + sum of multipliers times weights, and the weighted sums of the charges are the totals.
    result.energy = 0.5 * dot(residual, charges);
    result.gradient = std::move(residual);
    for (int k = 0; k < constraints.count; ++k) {
        result.energy += 0.5 * result.multipliers[k] * constraints.totals[k];
        for (int i = 0; i < n; ++i)
            result.gradient[i] += result.multipliers[k] * space.weights(k)[i];
    }
    if (system_.electronegativities) result.energy += 0.5 * dot_product(n, system_.electronegativities, charges.data());
}

void ChargeEquilibration::Implementation::add_forces(EquilibrationResult &result) {
    const std::vector<double> &q = result.charges;
    const WorkShare &share = options_.share;
    const int begin = share.begin(system_.n), end = share.end(system_.n);
    result.forces.assign(3 * std::size_t(system_.n), 0.0);
    ReciprocalOutput output;
    output.forces = result.forces.data() + 3 * std::size_t(begin);
    output.virial = result.virial.data();
    result.energy =
        reciprocal_->compute(end - begin, system_.positions + 3 * std::size_t(begin), q.data() + begin, output);
    for (int i = 0; i < system_.n; ++i) {
        result.energy += system_.electronegativities[i] * q[i] + 0.5 * diagonal_[i] * q[i] * q[i];
    }
    std::array<double, 10> of_pairs{};  // energy and virial
    if (system_.widths) of_pairs[9] = pairs_.add_forces(q.data(), result.forces.data(), of_pairs.data());
    share.add_up(result.forces.size(), result.forces.data());
    share.add_up(of_pairs.size(), of_pairs.data());
    result.energy += of_pairs[9];
    for (int c = 0; c < 9; ++c)
        result.virial[c] += of_pairs[c];
    if (heights_.empty()) return;
    const double dipole = slab_dipole(q), scale = 2.0 * pi * coulomb_constant / volume_;
    const double slab_energy = scale * dipole * dipole;
    result.energy += slab_energy;
    for (int i = 0; i < system_.n; ++i) {
        for (int c = 0; c < 3; ++c)
            result.forces[3 * std::size_t(i) + c] -= 2.0 * scale * dipole * q[i] * normal_[c];
    }
    // E ~ (M.N)^2 / (|N|^2 V) with N the cross product of the other two vectors: derivative with the strain.
    for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b) {
            result.virial[3 * a + b] -= slab_energy * (2.0 * normal_[a] * normal_[b] - (a == b ? 1.0 : 0.0));
        }
    }
}

EquilibrationResult ChargeEquilibration::Implementation::solve(const GaussianCharges &system,
                                                               const ChargeConstraints &constraints, bool wants_forces,
                                                               const double *guess, KnownGradient known) {
    prepare(system);
    const std::vector<double> start = guess ? std::vector<double>(guess, guess + system.n) : history_.predict(system.n);
    EquilibrationResult result;
    result.charges = start;
    try {
        minimise(constraints, known, result);
    } catch (const ConvergenceError &) {
        const bool has_failed_by_memory = !inverse_.is_empty();  // of some other system
        reset();
        if (!has_failed_by_memory) throw;
        result = EquilibrationResult();
        result.charges = start;
        minimise(constraints, known, result);
    } catch (...) {
        reset();
        throw;
    }
    history_.remember(result.charges);
    if (wants_forces) add_forces(result);
    return result;
}

EquilibrationResult ChargeEquilibration::Implementation::evaluate(const GaussianCharges &system,
                                                                  const double *charges) {
    prepare(system);
    EquilibrationResult result;
    result.charges.assign(charges, charges + system.n);
    add_forces(result);
    return result;
}

ChargeEquilibration::ChargeEquilibration(const EquilibrationOptions &options):
    implementation_(std::make_unique<Implementation>(options)) {}
ChargeEquilibration::~ChargeEquilibration() = default;
ChargeEquilibration::ChargeEquilibration(ChargeEquilibration &&) noexcept = default;

EquilibrationResult ChargeEquilibration::solve(const GaussianCharges &system, const ChargeConstraints &constraints,
                                               bool wants_forces, const double *guess, KnownGradient known) {
    return implementation_->solve(system, constraints, wants_forces, guess, known);
}
EquilibrationResult ChargeEquilibration::evaluate(const GaussianCharges &system, const double *charges) {
    return implementation_->evaluate(system, charges);
}
void ChargeEquilibration::reset() {
    implementation_->reset();
}
void ChargeEquilibration::renumber(const std::vector<int> &old_index) {
    implementation_->renumber(old_index);
}
std::string ChargeEquilibration::describe() const {
    return implementation_->describe();
}

}  // namespace qnep
