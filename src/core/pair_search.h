// Pairs of atoms of a periodic system, for sums that need each pair once.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "electrostatics.h"

namespace qnep {

/// The pairs within a cutoff plus a skin, each listed once; kept until an atom has moved half the skin.
class PairSearch {
public:
    /// Lengths in Å, both positive.
    PairSearch(double cutoff, double skin);

    /// positions: [n][3], Å, anywhere in space. Of `n_parts` lists that together hold all pairs, this one holds `part`,
    /// about the same number in each. Says whether the list was built anew. Throws InputError for positions that are
    /// not finite and for a cell without volume.
    bool update(int n, const double *positions, const Cell &cell, int part = 0, int n_parts = 1);

    std::size_t size() const { return first_.size(); }
    const std::vector<std::int32_t> &first() const { return first_; }
    const std::vector<std::int32_t> &second() const { return second_; }
    /// [n_pairs][3]: the pair's vector is positions[second] + shifts . cell - positions[first].
    const std::vector<std::int32_t> &shifts() const { return shifts_; }

private:
    bool is_valid(int n, const double *positions, const Cell &cell) const;
    void build(int n, const double *positions, const Cell &cell, int part, int n_parts);

    double cutoff_, skin_;
    std::vector<std::int32_t> first_, second_, shifts_;
    std::vector<double> reference_;  // [n][3], positions when the list was built
    Cell cell_{};
    bool is_built_ = false;
};

/// Vector of pair `p`, Å.
inline std::array<double, 3> pair_vector(const double *positions, const Cell &cell, std::int32_t first,
                                         std::int32_t second, const std::int32_t *shift) {
    std::array<double, 3> r;
    for (int c = 0; c < 3; ++c) {
        r[c] = positions[3 * std::size_t(second) + c] - positions[3 * std::size_t(first) + c] + shift[0] * cell[0][c] +
               shift[1] * cell[1][c] + shift[2] * cell[2][c];
    }
    return r;
}

}  // namespace qnep
