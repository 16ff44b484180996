// Geometry of a periodic cell in reciprocal space.
#pragma once

#include <array>
#include <cmath>
#include <limits>

#include "constants.h"
#include "electrostatics.h"

namespace qnep {

struct ReciprocalCell {
    /// Throws InputError if the cell has no volume or is not finite.
    explicit ReciprocalCell(const Cell &cell);

    std::array<double, 3> fractional(const double *position) const {
        std::array<double, 3> s;
        for (int d = 0; d < 3; ++d) {
            s[d] = inverse[d][0] * position[0] + inverse[d][1] * position[1] + inverse[d][2] * position[2];
            s[d] -= std::floor(s[d]);
            if (s[d] >= 1.0) s[d] = 0.0;  // a tiny negative number rounds to 1
        }
        return s;
    }

    /// n1 b1 + n2 b2 + n3 b3, 1/Å, with the factor 2 pi.
    std::array<double, 3> vector(int n1, int n2, int n3) const {
        std::array<double, 3> k;
        for (int c = 0; c < 3; ++c)
            k[c] = n1 * vectors[0][c] + n2 * vectors[1][c] + n3 * vectors[2][c];
        return k;
    }

    double volume;                      // Å^3, positive also for a left-handed cell
    std::array<double, 3> thicknesses;  // between opposite faces, Å
    std::array<double, 3> lengths;      // |a|, |b|, |c|, Å
    Cell inverse;                       // rows: b_d / 2 pi
    Cell vectors;                       // rows: b_d
};

/// Equal to no cell, not even to itself.
inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
inline constexpr Cell no_cell = {{{not_a_number, 0, 0}, {0, 0, 0}, {0, 0, 0}}};

/// (4 pi / V) exp(-k^2/4 alpha^2)/k^2, or 0 outside the sphere |k| < 2 pi alpha and at k = 0.
inline double ewald_weight(double k_squared, double alpha, double volume) {
    const double limit = 2.0 * pi * alpha;
    if (k_squared == 0.0 || !(k_squared < limit * limit)) return 0.0;
    return 4.0 * pi / volume * std::exp(-k_squared / (4.0 * alpha * alpha)) / k_squared;
}

/// How many reciprocal vectors an Ewald sum goes over, about: half of those in the sphere.
inline double ewald_vectors(double alpha, double volume) {
    return 2.0 / 3.0 * pi * alpha * alpha * alpha * volume;
}
inline constexpr double most_ewald_vectors = 1e7;  // that an Ewald sum takes, with about 1 GB

/// 1/(2 alpha^2) + 2/k^2, of which the virial of one reciprocal vector is made.
inline double virial_scale(double k_squared, double alpha) {
    return 0.5 / (alpha * alpha) + 2.0 / k_squared;
}

/// Factor of one reciprocal vector in the virial: delta_ab - virial_scale k_a k_b, row-major.
inline std::array<double, 9> virial_factor(const std::array<double, 3> &k, double alpha) {
    const double scale = virial_scale(k[0] * k[0] + k[1] * k[1] + k[2] * k[2], alpha);
    std::array<double, 9> factor;
    for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b)
            factor[3 * a + b] = (a == b ? 1.0 : 0.0) - scale * k[a] * k[b];
    }
    return factor;
}

/// Adds power times virial_factor of one vector, as seven sums: the trace's unit part, then xx, yy, zz, xy, xz, yz.
inline void add_virial_of_wave(double power, double scaled_power, const std::array<double, 3> &k,
                               std::array<double, 7> &sums) {
    const double x = scaled_power * k[0], y = scaled_power * k[1];
    sums[0] += power;
    sums[1] -= x * k[0];
    sums[2] -= y * k[1];
    sums[3] -= scaled_power * k[2] * k[2];
    sums[4] -= x * k[1];
    sums[5] -= x * k[2];
    sums[6] -= y * k[2];
}

/// virial += scale times the tensor of these sums.
inline void add_virial_sums(double scale, const std::array<double, 7> &sums, double *virial) {
    constexpr int places[9] = {1, 4, 5, 4, 2, 6, 5, 6, 3};
    for (int c = 0; c < 9; ++c)
        virial[c] += scale * (sums[places[c]] + (c % 4 == 0 ? sums[0] : 0.0));
}

/// The six different components of a symmetric 3x3 tensor in row-major order, and where each one goes.
inline constexpr int symmetric_components[6][2] = {{0, 0}, {4, 4}, {8, 8}, {1, 3}, {2, 6}, {5, 7}};

}  // namespace qnep
