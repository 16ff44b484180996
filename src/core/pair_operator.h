// The constant linear map from dE/dA to forces, virials and Born charges, and its transpose, for training.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace qnep {

/// Radial neighbour pairs of a batch of structures. A = sum over neighbours of one type of f_k(d).
template <typename Real>
struct RadialPairs {
    const std::int64_t *rows = nullptr;       // [n_atoms + 1]: the pairs of centre i are rows[i] ... rows[i + 1]
    const std::int32_t *neighbors = nullptr;  // [n_pairs]
    const std::int32_t *types = nullptr;      // [n_pairs], of the neighbour
    const Real *vectors = nullptr;            // [n_pairs][3], r_j - r_i, Å
    const Real *directions = nullptr;         // [n_pairs][3], unit vectors
    const Real *slopes = nullptr;             // [n_pairs][n_basis], df_k/dd, 1/Å
    int n_basis = 0;
};

/// Angular neighbour pairs. A = sum over neighbours of one type of f_k(d) B_m(u).
template <typename Real>
struct AngularPairs {
    RadialPairs<Real> radial;
    const Real *values = nullptr;     // [n_pairs][n_basis], f_k
    const Real *harmonics = nullptr;  // [n_pairs][n_harmonics], B_m(u)
    const Real *gradients = nullptr;  // [n_pairs][3][n_harmonics], dB_m/dr, 1/Å
    int n_harmonics = 0;              // padded to a multiple of 8
};

/// The atoms of a batch, sorted by type and within a type by structure, so that the atoms of type t in structure f
/// are blocks[t * (n_frames + 1) + f] ... blocks[t * (n_frames + 1) + f + 1].
struct BatchLayout {
    int n_types = 0;
    int n_frames = 0;
    const std::int64_t *blocks = nullptr;  // [n_types][n_frames + 1]
    int n_threads = 1;
};

/// Derivatives of the energy with respect to A, one array per type of the centre atom.
template <typename Real>
struct DensityDerivatives {
    std::vector<Real *> radial;   // per type [n_atoms of the type][n_types * n_basis]
    std::vector<Real *> angular;  // per type [n_types * n_basis][n_atoms of the type][n_harmonics]
};

/// What the pair vectors G_ij = dE/dr_ij are summed to, or the derivatives of a loss with respect to it. Null: not
/// wanted. All arrays are added to.
template <typename Real>
struct PairSums {
    Real *forces = nullptr;        // [n_atoms][3]: F_i += G_ij, F_j -= G_ij
    Real *virials = nullptr;       // [n_frames][9] row-major: W -= r_ij (x) G_ij
    Real *born_charges = nullptr;  // [n_atoms][9]: Z_i += r_ij (x) G_ij / 2, Z_j -= the same
};

/// Sum forces, virials and Born charges from dE/dA. Structures are independent, so the result does not depend on the
/// number of threads.
template <typename Real>
void sum_pairs(const BatchLayout &layout, const RadialPairs<Real> &radial, const AngularPairs<Real> &angular,
               const DensityDerivatives<Real> &derivatives, const PairSums<Real> &sums);

/// The transpose of `sum_pairs`: from the gradient of a loss with respect to the sums to its gradient with respect to
/// dE/dA, which is added to `derivatives`.
template <typename Real>
void sum_pairs_transposed(const BatchLayout &layout, const RadialPairs<Real> &radial, const AngularPairs<Real> &angular,
                          const PairSums<Real> &gradients, const DensityDerivatives<Real> &derivatives);

}  // namespace qnep
