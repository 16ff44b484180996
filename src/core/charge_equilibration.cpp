#include "charge_equilibration.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>

#include "constants.h"
#include "electrostatics_cell.h"
#include "model.h"

namespace qnep {
namespace {

double dot(const std::vector<double> &a, const std::vector<double> &b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// 1 until `begin`, 0 from `end` on, with two continuous derivatives.
struct Taper {
    double value, slope;
    Taper(double distance, double begin, double end) {
        const double x = std::clamp((distance - begin) / (end - begin), 0.0, 1.0);
        value = 1.0 - x * x * x * (10.0 - 15.0 * x + 6.0 * x * x);
        slope = -30.0 * x * x * (1.0 - x) * (1.0 - x) / (end - begin);
    }
};

// erf(s d)/d and its derivative.
struct SmearedCoulomb {
    double value, slope;
    SmearedCoulomb(double distance, double s) {
        value = std::erf(s * distance) / distance;
        slope = (2.0 * s / std::sqrt(pi) * std::exp(-s * s * distance * distance) - value) / distance;
    }
};

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

class ChargeEquilibration::Implementation {
public:
    explicit Implementation(const EquilibrationOptions &options): options_(options) {
        if (!(options.alpha > 0.0)) throw InputError("alpha must be positive, got " + std::to_string(options.alpha));
        if (!(options.tolerance > 0.0)) {
            throw InputError("tolerance of the charges must be positive, got " + std::to_string(options.tolerance));
        }
        if (options.slab_axis < -1 || options.slab_axis > 2) {
            throw InputError("slab axis must be 0, 1, 2 or -1 for none, got " + std::to_string(options.slab_axis));
        }
    }

    EquilibrationResult solve(const GaussianCharges &system, const ChargeConstraints &constraints, bool wants_forces);
    EquilibrationResult evaluate(const GaussianCharges &system, const double *charges);
    void reset() { history_.clear(); }
    std::string describe() const { return reciprocal_ ? reciprocal_->describe() : "nothing computed yet"; }

private:
    struct Pair {
        int first, second;
        double distance, value, slope;  // Å; coefficient of q_i q_j, eV e^-2, and its derivative
        std::array<double, 3> direction;
    };

    void prepare(const GaussianCharges &system);
    void prepare_pairs();
    void prepare_slab();
    void apply(const std::vector<double> &charges, std::vector<double> &potentials);
    std::vector<double> project(const ChargeConstraints &constraints, const SmallSystem &small,
                                std::vector<double> &residual, std::vector<double> &multipliers) const;
    std::vector<double> weighted_sums(const ChargeConstraints &constraints, const std::vector<double> &values) const;
    void meet_constraints(const ChargeConstraints &constraints, const SmallSystem &small,
                          std::vector<double> &charges) const;
    void minimise(const ChargeConstraints &constraints, EquilibrationResult &result);
    std::vector<double> predict() const;
    void remember(const std::vector<double> &charges);
    void add_forces(EquilibrationResult &result);
    double slab_dipole(const std::vector<double> &charges) const { return dot(charges, heights_); }

    EquilibrationOptions options_;
    GaussianCharges system_;
    std::unique_ptr<ReciprocalSum> reciprocal_;
    int reciprocal_atoms_ = -1;
    std::vector<double> diagonal_;        // [n], V/e: hardness and what the Gaussian's own energy lacks
    std::vector<double> preconditioner_;  // [n], inverse of the whole diagonal
    std::vector<Pair> pairs_;
    std::array<double, 3> normal_{};
    std::vector<double> heights_;  // [n], Å, along the normal; empty without a slab
    double volume_ = 0.0;
    std::deque<std::vector<double>> history_;
};

void ChargeEquilibration::Implementation::prepare(const GaussianCharges &system) {
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
        reciprocal_ = ewald ? make_ewald(options_.alpha, options_.n_threads)
                            : make_pppm(options_.alpha, options_.accuracy, options_.n_threads);
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
    prepare_pairs();
    prepare_slab();
}

void ChargeEquilibration::Implementation::prepare_pairs() {
    pairs_.clear();
    if (!system_.widths) return;
    const double cutoff = options_.cutoff;
    for (std::size_t p = 0; p < system_.n_pairs; ++p) {
        const int i = system_.first[p], j = system_.second[p];
        std::array<double, 3> r;
        double squared = 0.0;
        for (int c = 0; c < 3; ++c) {
            r[c] = system_.positions[3 * std::size_t(j) + c] - system_.positions[3 * std::size_t(i) + c];
            for (int d = 0; d < 3; ++d)
                r[c] += system_.shifts[3 * p + d] * system_.cell[d][c];
            squared += r[c] * r[c];
        }
        if (squared >= cutoff * cutoff) continue;
        const double distance = std::sqrt(squared);
        const double spread = std::hypot(system_.widths[i], system_.widths[j]);
        const SmearedCoulomb wanted(distance, 1.0 / (std::sqrt(2.0) * spread)), present(distance, options_.alpha);
        const Taper taper(distance, 0.9 * cutoff, cutoff);
        const double rest = coulomb_constant * (wanted.value - present.value);
        const double rest_slope = coulomb_constant * (wanted.slope - present.slope);
        Pair pair{i, j, distance, rest * taper.value, rest_slope * taper.value + rest * taper.slope, {}};
        for (int c = 0; c < 3; ++c)
            pair.direction[c] = r[c] / distance;
        pairs_.push_back(pair);
    }
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
    for (int i = 0; i < system_.n; ++i)
        potentials[i] = diagonal_[i] * charges[i];
    for (const Pair &pair : pairs_)
        potentials[pair.first] += pair.value * charges[pair.second];
    ReciprocalOutput output;
    output.potentials = potentials.data();
    reciprocal_->compute(system_.n, system_.positions, charges.data(), output);
    if (heights_.empty()) return;
    const double field = 4.0 * pi * coulomb_constant / volume_ * slab_dipole(charges);
    for (int i = 0; i < system_.n; ++i)
        potentials[i] += field * heights_[i];
}

std::vector<double> ChargeEquilibration::Implementation::weighted_sums(const ChargeConstraints &constraints,
                                                                       const std::vector<double> &values) const {
    std::vector<double> sums(constraints.count, 0.0);
    for (int k = 0; k < constraints.count; ++k) {
        const double *weights = constraints.weights + std::size_t(k) * system_.n;
        for (int i = 0; i < system_.n; ++i)
            sums[k] += weights[i] * values[i];
    }
    return sums;
}

// Takes the multipliers' share out of the residual and returns the preconditioned rest, which no constraint sees
// (Gould, Hribar and Nocedal, SIAM J. Sci. Comput. 23, 1376 (2001), doi:10.1137/S1064827598345667).
std::vector<double> ChargeEquilibration::Implementation::project(const ChargeConstraints &constraints,
                                                                 const SmallSystem &small,
                                                                 std::vector<double> &residual,
                                                                 std::vector<double> &multipliers) const {
    std::vector<double> scaled(residual);
    for (int i = 0; i < system_.n; ++i)
        scaled[i] *= preconditioner_[i];
    const std::vector<double> shares = small.solve(weighted_sums(constraints, scaled));
    for (int k = 0; k < constraints.count; ++k) {
        const double *weights = constraints.weights + std::size_t(k) * system_.n;
        multipliers[k] += shares[k];
        for (int i = 0; i < system_.n; ++i)
            residual[i] -= shares[k] * weights[i];
    }
    for (int i = 0; i < system_.n; ++i)
        scaled[i] = preconditioner_[i] * residual[i];
    return scaled;
}

void ChargeEquilibration::Implementation::meet_constraints(const ChargeConstraints &constraints,
                                                           const SmallSystem &small,
                                                           std::vector<double> &charges) const {
    std::vector<double> missing = weighted_sums(constraints, charges);
    for (int k = 0; k < constraints.count; ++k)
        missing[k] = constraints.totals[k] - missing[k];
    const std::vector<double> shares = small.solve(missing);
    for (int k = 0; k < constraints.count; ++k) {
        const double *weights = constraints.weights + std::size_t(k) * system_.n;
        for (int i = 0; i < system_.n; ++i)
            charges[i] += preconditioner_[i] * weights[i] * shares[k];
    }
}

void ChargeEquilibration::Implementation::minimise(const ChargeConstraints &constraints, EquilibrationResult &result) {
    const int n = system_.n;
    std::vector<double> gram(std::size_t(constraints.count) * constraints.count, 0.0);
    for (int k = 0; k < constraints.count; ++k) {
        for (int l = 0; l < constraints.count; ++l) {
            const double *a = constraints.weights + std::size_t(k) * n, *b = constraints.weights + std::size_t(l) * n;
            for (int i = 0; i < n; ++i)
                gram[k * constraints.count + l] += a[i] * preconditioner_[i] * b[i];
        }
    }
    const SmallSystem small(gram, constraints.count);
    std::vector<double> &charges = result.charges;
    charges = predict();
    meet_constraints(constraints, small, charges);
    result.multipliers.assign(constraints.count, 0.0);

    std::vector<double> residual(n), product(n);
    apply(charges, residual);
    for (int i = 0; i < n; ++i)
        residual[i] += system_.electronegativities[i];
    std::vector<double> step = project(constraints, small, residual, result.multipliers);
    double squared = dot(residual, step);
    for (int i = 0; i < n; ++i)
        step[i] = -step[i];
    // e.H.e = e.r for the error e of charges that meet the constraints, and H is not smaller than the hardness.
    const double softest = *std::min_element(system_.hardnesses, system_.hardnesses + n);
    for (;; ++result.n_iterations) {
        result.error_bound = std::sqrt(dot(residual, residual) / n) / softest;
        if (result.error_bound <= options_.tolerance) break;
        if (result.n_iterations >= options_.max_iterations || !std::isfinite(result.error_bound)) {
            throw ConvergenceError("the charges did not converge in " + std::to_string(result.n_iterations) +
                                   " iterations: on average they may be wrong by " +
                                   std::to_string(result.error_bound) + " e, wanted were " +
                                   std::to_string(options_.tolerance) +
                                   " e. Look at distances and hardnesses, or raise max_iterations");
        }
        apply(step, product);
        const double length = squared / dot(step, product);
        for (int i = 0; i < n; ++i) {
            charges[i] += length * step[i];
            residual[i] += length * product[i];
        }
        const std::vector<double> direction = project(constraints, small, residual, result.multipliers);
        const double next = dot(residual, direction);
        for (int i = 0; i < n; ++i)
            step[i] = next / squared * step[i] - direction[i];
        squared = next;
    }
    // H.q + chi = residual + sum of multipliers times weights, and the weighted sums of the charges are the totals.
    result.energy = 0.5 * dot(residual, charges);
    for (int k = 0; k < constraints.count; ++k)
        result.energy += 0.5 * result.multipliers[k] * constraints.totals[k];
    for (int i = 0; i < n; ++i)
        result.energy += 0.5 * system_.electronegativities[i] * charges[i];
}

// Charges change smoothly along a trajectory: a polynomial through the last solutions.
std::vector<double> ChargeEquilibration::Implementation::predict() const {
    std::vector<double> guess(system_.n, 0.0);
    if (history_.empty() || history_[0].size() != guess.size()) return guess;
    constexpr double coefficients[n_remembered][n_remembered] = {
        {1.0, 0.0, 0.0, 0.0}, {2.0, -1.0, 0.0, 0.0}, {3.0, -3.0, 1.0, 0.0}, {4.0, -6.0, 4.0, -1.0}};
    const std::size_t known = history_.size();
    for (std::size_t h = 0; h < known; ++h) {
        for (int i = 0; i < system_.n; ++i)
            guess[i] += coefficients[known - 1][h] * history_[h][i];
    }
    return guess;
}

void ChargeEquilibration::Implementation::remember(const std::vector<double> &charges) {
    if (!history_.empty() && history_[0].size() != charges.size()) history_.clear();
    history_.push_front(charges);
    if (history_.size() > n_remembered) history_.pop_back();
}

void ChargeEquilibration::Implementation::add_forces(EquilibrationResult &result) {
    const std::vector<double> &q = result.charges;
    result.forces.assign(3 * std::size_t(system_.n), 0.0);
    ReciprocalOutput output;
    output.forces = result.forces.data();
    output.virial = result.virial.data();
    result.energy = reciprocal_->compute(system_.n, system_.positions, q.data(), output);
    for (int i = 0; i < system_.n; ++i) {
        result.energy += system_.electronegativities[i] * q[i] + 0.5 * diagonal_[i] * q[i] * q[i];
    }
    for (const Pair &pair : pairs_) {  // both directions are listed: each has half of the energy
        const double product = q[pair.first] * q[pair.second];
        result.energy += 0.5 * product * pair.value;
        for (int a = 0; a < 3; ++a) {
            const double force = product * pair.slope * pair.direction[a];
            result.forces[3 * std::size_t(pair.first) + a] += force;
            for (int b = 0; b < 3; ++b)
                result.virial[3 * b + a] -= 0.5 * force * pair.distance * pair.direction[b];
        }
    }
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
                                                               const ChargeConstraints &constraints,
                                                               bool wants_forces) {
    prepare(system);
    EquilibrationResult result;
    try {
        minimise(constraints, result);
    } catch (...) {
        reset();
        throw;
    }
    remember(result.charges);
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
                                               bool wants_forces) {
    return implementation_->solve(system, constraints, wants_forces);
}
EquilibrationResult ChargeEquilibration::evaluate(const GaussianCharges &system, const double *charges) {
    return implementation_->evaluate(system, charges);
}
void ChargeEquilibration::reset() {
    implementation_->reset();
}
std::string ChargeEquilibration::describe() const {
    return implementation_->describe();
}

}  // namespace qnep
