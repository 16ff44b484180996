// Which atoms belong to which electrode, as smooth functions of the positions.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "electrostatics.h"
#include "pair_search.h"

namespace qnep {

/// Atoms belong to electrodes as fixed groups, or if they are metal with enough metal around them.
///
/// A metal atom's count of metal neighbours is a sum of steps from 1 to 0 over `distances`; its total weight is a step
/// from 0 to 1 over `counts`; its share in neighbouring electrodes a step across each plane. All steps have two
/// continuous derivatives.
struct MembershipOptions {
    int n_electrodes = 1;
    bool has_fixed_groups = false;
    std::vector<char> is_metal;                 // [n_types]
    std::array<double, 2> distances{4.2, 5.2};  // Å; encloses the gap behind the second shell of sodium
    std::array<double, 2> counts{5.0, 8.0};
    std::vector<double> planes;  // [n_electrodes - 1], fractions of the cell vector `axis`, ascending
    double plane_width = 0.05;   // fraction
    int axis = 2;
};

/// Memberships of n atoms and how they change with the positions.
struct Memberships {
    int n_electrodes = 0, n = 0;
    std::vector<double> values;  // [n_electrodes][n], 0 ... 1, sum over electrodes at most 1

    double value(int electrode, int i) const { return values[std::size_t(electrode) * n + i]; }
    /// Adds to forces [n][3] and virial [9] what derivatives [n_electrodes][n], eV, of an energy by the memberships
    /// contribute.
    void pull_back(const std::vector<double> &derivatives, double *forces, double *virial) const;

    // Empty for fixed groups.
    struct Bond {
        std::int32_t first, second;
        std::array<double, 3> vector;  // Å
        double slope;                  // derivative of either count by the distance, over the distance
    };
    std::vector<Bond> bonds;
    std::vector<double> metal, metal_slopes;  // [n], weight in all electrodes; derivative by the count
    std::vector<double> sides, side_slopes;   // [n_electrodes][n]; derivative by the fraction along the axis
    std::array<double, 3> axis_gradient{};    // of the fraction, 1/Å
};

class ElectrodeMembership {
public:
    /// Throws InputError for switches and planes that do not ascend.
    explicit ElectrodeMembership(const MembershipOptions &options);

    /// positions: [n][3], Å; fractions: [n], along the axis, not wrapped through the vacuum; types: [n]; groups: [n],
    /// electrode of the atom, -1 for none (with fixed groups), or not negative for atoms that count as metal of an
    /// electrode whatever their neighbours are (without; may be null).
    Memberships compute(int n, const double *positions, const double *fractions, const Cell &cell, const int *types,
                        const int *groups);

    const MembershipOptions &options() const { return options_; }

private:
    void count_neighbors(Memberships &result, const double *positions, const Cell &cell, const int *types,
                         std::vector<double> &counts);
    void divide(Memberships &result, const double *fractions) const;

    MembershipOptions options_;
    PairSearch search_;
    std::vector<double> metal_positions_;
};

}  // namespace qnep
