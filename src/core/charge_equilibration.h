// Charges that minimise the energy of Gaussian charges with electronegativity and hardness, under linear constraints.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "electrostatics.h"

namespace qnep {

/// Gaussian charges in a periodic cell. Arrays belong to the caller.
struct GaussianCharges {
    int n = 0;
    const double *positions = nullptr;  // [n][3], Å; along a slab's normal not wrapped through its vacuum
    Cell cell{};
    /// [n], V: energy per charge; minus the potential of an electrode. Null if a gradient is known: then the energy of
    /// the result lacks their part.
    const double *electronegativities = nullptr;
    const double *hardnesses = nullptr;  // [n], V/e, positive; without the charge's own Gaussian
    const double *widths = nullptr;      // [n], Å, standard deviations; null: 1/(2 alpha), no pair term
    std::size_t n_pairs = 0;             // all with d < cutoff, or more
    bool has_each_pair_once = false;     // false: both directions are listed
    bool has_new_pairs = true;           // false: the list is that of the last system, which saves time
    const std::int32_t *first = nullptr, *second = nullptr;  // [n_pairs]
    const std::int32_t *shifts = nullptr;                    // [n_pairs][3], of `second`, in cells
};

/// Constraint k: sum over atoms of weights[k][i] q_i = totals[k].
struct ChargeConstraints {
    int count = 0;
    const double *weights = nullptr;  // [count][n], linearly independent
    const double *totals = nullptr;   // [count], e
};

/// Several processes that hold the same arrays divide the sums among them. Each must get the same result from `sum`, to
/// the last bit, so that all take the same decisions.
struct WorkShare {
    int rank = 0, n_ranks = 1;
    DomainSum sum;  // empty for one process

    int begin(int n) const { return static_cast<int>(std::int64_t(n) * rank / n_ranks); }
    int end(int n) const { return static_cast<int>(std::int64_t(n) * (rank + 1) / n_ranks); }
    void add_up(std::size_t n, double *values) const {
        if (sum) sum(static_cast<int>(n), values);
    }
};

/// Charges of earlier steps, from which the next ones are extrapolated.
class ChargeHistory {
public:
    /// [n], e; zeros if nothing is known of n atoms. A polynomial through at most `n_points` (1 ... 4) solutions: the
    /// more, the faster changes it follows and the more it magnifies their errors (1, 2.2, 4.4 and 8.3 times).
    std::vector<double> predict(std::size_t n, std::size_t n_points = 4) const;
    void remember(const std::vector<double> &charges);
    void clear() { solutions_.clear(); }
    /// What comes next is the step of the last solution once more, as at the start of a run.
    void repeat_last() { repeats_last_ = true; }
    const std::deque<std::vector<double>> &solutions() const { return solutions_; }  // the last one first

private:
    std::deque<std::vector<double>> solutions_;
    bool repeats_last_ = false;
};

struct EquilibrationOptions {
    double alpha = 0.0;           // 1/Å, Ewald parameter
    double cutoff = 0.0;          // Å, of the pair term
    std::string kspace = "auto";  // "ewald", "pppm" or "auto"
    double accuracy = 1e-5;       // of PPPM, see make_pppm
    int n_threads = 1;
    int slab_axis = -1;       // lattice vector along which the cell is open (vacuum); -1: periodic in all directions
    double tolerance = 1e-7;  // e, bound of the root mean square error of the charges
    int max_iterations = 200;
    WorkShare share;  // with it, the pairs of GaussianCharges are those of this process
};

/// Charges [n], e, at which the derivatives of the energy [n], V, are known: saves the first product with the matrix.
struct KnownGradient {
    const double *charges = nullptr, *gradient = nullptr;
};

struct EquilibrationResult {
    double energy = 0.0;              // eV
    std::vector<double> charges;      // [n], e
    std::vector<double> multipliers;  // [count], V: derivative of the energy with respect to totals[k]
    std::vector<double> gradient;     // [n], V: derivative of the energy with respect to the charges, by `solve`
    std::vector<double> forces;       // [n][3], eV/Å, at fixed electronegativities, hardnesses and weights
    std::array<double, 9> virial{};   // row-major, eV
    int n_iterations = 0;
    double error_bound = 0.0;  // e
};

/// Minimises E(q) = sum chi_i q_i + 1/2 sum J_i q_i^2 + E_Gauss(q) (+ slab term) under the constraints by projected
/// preconditioned conjugate gradients; one product with the Coulomb matrix per step, never the matrix itself.
///
/// E_Gauss holds every Gaussian's own energy K q^2/(2 sqrt(pi) sigma), its pair energy is
/// K q_i q_j erf(d/sqrt(2(sigma_i^2 + sigma_j^2)))/d (Ko et al., Nat. Commun. 12, 398 (2021),
/// doi:10.1038/s41467-020-20427-2). It is split as [erf(alpha d)/d in the reciprocal sum] + [the rest, tapered to zero
/// over the last tenth of the cutoff]. The slab term is that of Yeh and Berkowitz, J. Chem. Phys. 111, 3155 (1999),
/// doi:10.1063/1.479595, for any orientation; it needs charges that sum to zero.
///
/// The preconditioner is an estimate of the inverse matrix from the iterations of earlier steps, see InverseEstimate,
/// and the inverse of the diagonal where nothing is known. The start is the `guess` if one is given, else extrapolated
/// from the last four solutions if the number of atoms has not changed.
class ChargeEquilibration {
public:
    explicit ChargeEquilibration(const EquilibrationOptions &options);
    ~ChargeEquilibration();
    ChargeEquilibration(ChargeEquilibration &&) noexcept;

    /// Throws InputError for wrong input, ConvergenceError with the residual if max_iterations do not suffice.
    /// Without `wants_forces` the forces stay empty and the virial zero.
    EquilibrationResult solve(const GaussianCharges &system, const ChargeConstraints &constraints,
                              bool wants_forces = true, const double *guess = nullptr, KnownGradient known = {});

    /// Energy, forces and virial of given charges (without minimising); multipliers stay empty.
    EquilibrationResult evaluate(const GaussianCharges &system, const double *charges);

    /// Forget earlier solutions.
    void reset();
    /// Atom i of the next system is atom old_index[i] of the last one, -1 if it is new.
    void renumber(const std::vector<int> &old_index);
    std::string describe() const;

private:
    class Implementation;
    std::unique_ptr<Implementation> implementation_;
};

/// Conjugate gradients did not reach the tolerance.
class ConvergenceError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

}  // namespace qnep
