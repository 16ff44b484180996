#include "electrode_membership.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "electrostatics_cell.h"
#include "model.h"

namespace qnep {
namespace {

constexpr double skin = 0.6;  // Å

// 0 up to `low`, 1 from `high` on, with two continuous derivatives.
struct SmoothStep {
    double value, slope;
    SmoothStep(double x, double low, double high) {
        const double u = std::clamp((x - low) / (high - low), 0.0, 1.0);
        value = u * u * u * (10.0 - 15.0 * u + 6.0 * u * u);
        slope = 30.0 * u * u * (1.0 - u) * (1.0 - u) / (high - low);
    }
};

void check_switch(const char *name, const std::array<double, 2> &limits) {
    if (!(limits[0] > 0.0 && limits[1] > limits[0] && std::isfinite(limits[1]))) {
        throw InputError(std::string(name) + " must be positive and ascending, got " + std::to_string(limits[0]) +
                         ", " + std::to_string(limits[1]));
    }
}

}  // namespace

void Memberships::pull_back(const std::vector<double> &derivatives, double *forces, double *virial) const {
    if (metal.empty()) return;
    std::vector<double> per_count(n, 0.0);
    for (int e = 0; e < n_electrodes; ++e) {
        for (int i = 0; i < n; ++i) {
            const std::size_t k = std::size_t(e) * n + i;
            per_count[i] += derivatives[k] * sides[k] * metal_slopes[i];
            const double slope = derivatives[k] * metal[i] * side_slopes[k];
            for (int c = 0; c < 3; ++c)
                forces[3 * std::size_t(i) + c] -= slope * axis_gradient[c];
        }
    }
    for (const Bond &bond : bonds) {
        const double slope = (per_count[bond.first] + per_count[bond.second]) * bond.slope;
        for (int a = 0; a < 3; ++a) {
            const double gradient = slope * bond.vector[a];
            forces[3 * std::size_t(bond.first) + a] += gradient;
            forces[3 * std::size_t(bond.second) + a] -= gradient;
            // Fractions along the axis do not change with a strain: no virial from the sides.
            for (int b = 0; b < 3; ++b)
                virial[3 * b + a] -= bond.vector[b] * gradient;
        }
    }
}

ElectrodeMembership::ElectrodeMembership(const MembershipOptions &options):
    options_(options), search_(options.distances[1], skin) {
    if (options.has_fixed_groups) return;
    check_switch("distances", options.distances);
    check_switch("counts", options.counts);
    if (static_cast<int>(options.planes.size()) != options.n_electrodes - 1) {
        throw InputError("planes must be one less than electrodes, got " + std::to_string(options.planes.size()) +
                         " planes for " + std::to_string(options.n_electrodes) + " electrodes");
    }
    bool ascends = options.plane_width > 0.0;
    for (std::size_t p = 1; p < options.planes.size(); ++p)
        ascends = ascends && options.planes[p] - options.planes[p - 1] > options.plane_width;
    if (!ascends) {
        throw InputError("planes must ascend by more than plane_width, which must be positive, got plane_width " +
                         std::to_string(options.plane_width));
    }
}

Memberships ElectrodeMembership::compute(int n, const double *positions, const double *fractions, const Cell &cell,
                                         const int *types, const int *groups) {
    Memberships result;
    result.n = n;
    result.n_electrodes = options_.n_electrodes;
    result.values.assign(std::size_t(n) * options_.n_electrodes, 0.0);
    if (options_.has_fixed_groups) {
        for (int i = 0; i < n; ++i) {
            if (groups[i] >= 0) result.values[std::size_t(groups[i]) * n + i] = 1.0;
        }
        return result;
    }
    std::vector<double> counts(n, 0.0);
    count_neighbors(result, positions, cell, types, counts);
    result.metal.assign(n, 0.0);
    result.metal_slopes.assign(n, 0.0);
    for (int i = 0; i < n; ++i) {
        if (!options_.is_metal[types[i]]) continue;
        const SmoothStep step(counts[i], options_.counts[0], options_.counts[1]);
        const bool is_always = groups && groups[i] >= 0;
        result.metal[i] = is_always ? 1.0 : step.value;
        result.metal_slopes[i] = is_always ? 0.0 : step.slope;
    }
    const auto &axis = ReciprocalCell(cell).inverse[options_.axis];
    std::copy(axis.begin(), axis.end(), result.axis_gradient.begin());
    divide(result, fractions);
    for (int e = 0; e < result.n_electrodes; ++e) {
        for (int i = 0; i < n; ++i)
            result.values[std::size_t(e) * n + i] = result.sides[std::size_t(e) * n + i] * result.metal[i];
    }
    return result;
}

void ElectrodeMembership::count_neighbors(Memberships &result, const double *positions, const Cell &cell,
                                          const int *types, std::vector<double> &counts) {
    std::vector<int> metal;
    metal_positions_.clear();
    for (int i = 0; i < result.n; ++i) {
        if (!options_.is_metal[types[i]]) continue;
        metal.push_back(i);
        metal_positions_.insert(metal_positions_.end(), positions + 3 * std::size_t(i),
                                positions + 3 * std::size_t(i) + 3);
    }
    search_.update(static_cast<int>(metal.size()), metal_positions_.data(), cell);
    const double limit = options_.distances[1] * options_.distances[1];
    for (std::size_t p = 0; p < search_.size(); ++p) {
        const std::int32_t i = search_.first()[p], j = search_.second()[p];
        const auto r = pair_vector(metal_positions_.data(), cell, i, j, &search_.shifts()[3 * p]);
        const double squared = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
        if (squared >= limit) continue;
        const double distance = std::sqrt(squared);
        const SmoothStep step(distance, options_.distances[0], options_.distances[1]);
        counts[metal[i]] += 1.0 - step.value;
        counts[metal[j]] += 1.0 - step.value;
        if (step.slope != 0.0) result.bonds.push_back({metal[i], metal[j], r, -step.slope / distance});
    }
}

// Partition of unity along the axis.
void ElectrodeMembership::divide(Memberships &result, const double *fractions) const {
    const std::size_t n = result.n;
    result.sides.assign(n * result.n_electrodes, 0.0);
    result.side_slopes.assign(n * result.n_electrodes, 0.0);
    const double half = 0.5 * options_.plane_width;
    for (std::size_t i = 0; i < n; ++i) {
        double above = 1.0, above_slope = 0.0;  // of the plane below the electrode
        for (int e = 0; e < result.n_electrodes; ++e) {
            double next = 0.0, next_slope = 0.0;
            if (e + 1 < result.n_electrodes) {
                const SmoothStep step(fractions[i], options_.planes[e] - half, options_.planes[e] + half);
                next = step.value;
                next_slope = step.slope;
            }
            result.sides[e * n + i] = above - next;
            result.side_slopes[e * n + i] = above_slope - next_slope;
            above = next;
            above_slope = next_slope;
        }
    }
}

}  // namespace qnep
