// Pairs of Gaussian charges: what the reciprocal sum lacks of their energy, as a sparse matrix.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "electrostatics.h"

namespace qnep {

/// A pair's coefficient of q_i q_j, V/e, and its derivative with respect to the distance, V/(e Å).
struct PairTerm {
    double value, slope;
};

/// Pairs with their shifts in cells, as a caller lists them.
struct PairList {
    std::size_t n = 0;
    bool has_each_pair_once = false;       // false: both directions are listed
    const std::int32_t *first = nullptr;   // [n]; fastest if pairs of the same atom follow each other
    const std::int32_t *second = nullptr;  // [n]
    const std::int32_t *shifts = nullptr;  // [n][3], of `second`
};

/// The part of K q_i q_j erf(d/sqrt(2(sigma_i^2 + sigma_j^2)))/d that K q_i q_j erf(alpha d)/d leaves, tapered to zero
/// over the last tenth of the cutoff. With few different widths it is interpolated (cubic, exact to 1e-9 V/e).
class GaussianPairs {
public:
    GaussianPairs(double alpha, double cutoff);

    /// widths: [n], Å. Keeps the pairs that need a term at any distance. What depends on neither positions nor cell is
    /// only done again if `is_new` or if widths have changed.
    void set_pairs(int n, const double *widths, const PairList &list, bool is_new);
    /// positions: [n][3], Å. Computes the terms of all pairs.
    void set_positions(const double *positions, const Cell &cell);

    /// Adds the matrix of the terms times charges [n] to potentials [n].
    void apply(const double *charges, double *potentials) const;
    /// Adds to forces [n][3], eV/Å, and to the virial, row-major, eV. Returns the energy, eV.
    double add_forces(const double *charges, double *forces, double *virial) const;

private:
    /// Pairs `begin` ... `end` have the same first atom and the same shift.
    struct Row {
        std::int32_t first;
        std::array<std::int32_t, 3> shift;
        std::size_t begin, end;
    };

    bool set_kinds(int n, const double *widths);
    void set_rows(const PairList &list);
    bool is_complete(int i, int j) const;
    std::array<double, 3> translation(const Row &row) const;

    double alpha_, cutoff_;
    std::vector<double> kinds_;          // different widths
    std::vector<std::int32_t> kind_of_;  // [n]
    std::vector<PairTerm> tables_;       // [n_kinds][n_kinds][n_knots], slopes per interval; empty with too many kinds
    std::vector<char> is_zero_;          // [n_kinds][n_kinds]
    bool has_rows_ = false;
    std::vector<Row> rows_;
    std::vector<std::int32_t> second_;   // [n_pairs]
    std::vector<double> values_;         // [n_pairs], V/e
    std::vector<double> slopes_;         // [n_pairs], V/(e Å²): over the distance
    const double *positions_ = nullptr;  // [n][3]
    Cell cell_{};
};

}  // namespace qnep
