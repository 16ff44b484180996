#include "gaussian_pairs.h"

#include <algorithm>
#include <cmath>

#include "constants.h"
#include "every_simd.h"

namespace qnep {
namespace {

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
        if (s * distance < 1e-4) {  // series: the terms of the formula below cancel
            value = 2.0 * s / std::sqrt(pi) * (1.0 - s * s * distance * distance / 3.0);
            slope = -4.0 * s * s * s * distance / (3.0 * std::sqrt(pi));
            return;
        }
        value = std::erf(s * distance) / distance;
        slope = (2.0 * s / std::sqrt(pi) * std::exp(-s * s * distance * distance) - value) / distance;
    }
};

// What the reciprocal sum lacks of the energy of two unit charges of joint variance sigma_i^2 + sigma_j^2.
PairTerm missing_pair_term(double distance, double variance, double alpha, double cutoff) {
    const SmearedCoulomb wanted(distance, 1.0 / std::sqrt(2.0 * variance)), present(distance, alpha);
    const Taper taper(distance, 0.9 * cutoff, cutoff);
    const double rest = coulomb_constant * (wanted.value - present.value);
    const double rest_slope = coulomb_constant * (wanted.slope - present.slope);
    return {rest * taper.value, rest_slope * taper.value + rest * taper.slope};
}

constexpr std::size_t most_kinds = 16;      // of widths; a table for each pair of them
constexpr int n_intervals = 2048;           // up to the cutoff
constexpr int n_knots = n_intervals + 2;    // the last two, zero, serve all longer distances
constexpr double smallest_squared = 1e-20;  // Å²; keeps the slope over the distance finite for two atoms in a place
constexpr std::int32_t no_shift[3] = {0, 0, 0};

struct PairArrays {
    const std::int32_t *second;
    double *values, *slopes;
};

// Cubic Hermite interpolation; the slope is the exact derivative of the interpolated value. `tables` are those of the
// first atom's kind. Pairs beyond the cutoff stay listed and get zeros: cheaper than to leave them out in each step.
QNEP_EVERY_SIMD
void interpolate(std::size_t begin, std::size_t end, const double *positions, const double *origin,
                 const std::int32_t *kinds, const PairTerm *tables, double inverse_spacing, PairArrays pairs) {
    const double x = origin[0], y = origin[1], z = origin[2];
    const double *knots = &tables->value;
#pragma GCC ivdep
    for (std::size_t p = begin; p < end; ++p) {
        const std::int32_t j = pairs.second[p];
        const double dx = positions[3 * j] - x, dy = positions[3 * j + 1] - y, dz = positions[3 * j + 2] - z;
        const double squared = std::max(dx * dx + dy * dy + dz * dz, smallest_squared);
        const double inverse = 1.0 / std::sqrt(squared);
        // In this order what is not a number ends at the last knot.
        const double place = std::min(double(n_intervals), squared * inverse * inverse_spacing);
        const auto k = static_cast<std::int32_t>(place);
        const double u = place - k;
        const std::int32_t at = 2 * (n_knots * kinds[j] + k);
        const double a = knots[at], a_slope = knots[at + 1], b = knots[at + 2], b_slope = knots[at + 3];
        const double rise = b - a;
        const double c2 = 3.0 * rise - 2.0 * a_slope - b_slope, c3 = a_slope + b_slope - 2.0 * rise;
        pairs.values[p] = a + u * (a_slope + u * (c2 + u * c3));
        pairs.slopes[p] = (a_slope + u * (2.0 * c2 + 3.0 * u * c3)) * inverse_spacing * inverse;
    }
}

// Sum over one row of value q_j; adds value q_i to the potential of each second atom. Four sums, so that no addition
// waits for the one before.
QNEP_EVERY_SIMD
double apply_row(std::size_t n, const std::int32_t *second, const double *values, const double *charges, double charge,
                 double *potentials) {
    double sums[4] = {};
    std::size_t p = 0;
    for (; p + 4 <= n; p += 4) {
        for (int lane = 0; lane < 4; ++lane) {
            const std::int32_t j = second[p + lane];
            sums[lane] += values[p + lane] * charges[j];
            potentials[j] += values[p + lane] * charge;
        }
    }
    for (; p < n; ++p) {
        sums[0] += values[p] * charges[second[p]];
        potentials[second[p]] += values[p] * charge;
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// {force on the first atom, sum of value q_j} of one row; subtracts the forces from those of the second atoms.
QNEP_EVERY_SIMD
std::array<double, 4> force_row(std::size_t n, const std::int32_t *second, const double *values, const double *slopes,
                                const double *positions, const double *origin, const double *charges, double charge,
                                double *forces) {
    std::array<double, 4> sums{};
    for (std::size_t p = 0; p < n; ++p) {
        const std::int32_t j = second[p];
        const double scale = charge * charges[j] * slopes[p];
        sums[3] += values[p] * charges[j];
        for (int c = 0; c < 3; ++c) {
            const double force = scale * (positions[3 * j + c] - origin[c]);
            sums[c] += force;
            forces[3 * j + c] -= force;
        }
    }
    return sums;
}

}  // namespace

GaussianPairs::GaussianPairs(double alpha, double cutoff): alpha_(alpha), cutoff_(cutoff) {}

// Says whether an atom's kind has changed.
bool GaussianPairs::set_kinds(int n, const double *widths) {
    std::vector<double> kinds(widths, widths + n);
    std::sort(kinds.begin(), kinds.end());
    kinds.erase(std::unique(kinds.begin(), kinds.end()), kinds.end());
    std::vector<std::int32_t> kind_of(n);
    for (int i = 0; i < n; ++i) {
        kind_of[i] = static_cast<std::int32_t>(std::lower_bound(kinds.begin(), kinds.end(), widths[i]) - kinds.begin());
    }
    const bool are_new = kinds != kinds_, has_changed = are_new || kind_of != kind_of_;
    kind_of_ = std::move(kind_of);
    if (!are_new) return has_changed;
    kinds_ = std::move(kinds);
    tables_.clear();
    is_zero_.clear();
    if (kinds_.size() > most_kinds) return has_changed;
    const double spacing = cutoff_ / n_intervals;
    for (double a : kinds_) {
        for (double b : kinds_) {
            bool is_zero = true;
            for (int k = 0; k < n_intervals; ++k) {
                PairTerm knot = missing_pair_term(k * spacing, a * a + b * b, alpha_, cutoff_);
                knot.slope *= spacing;
                is_zero = is_zero && std::abs(knot.value) < 1e-12;
                tables_.push_back(knot);
            }
            tables_.resize(tables_.size() + n_knots - n_intervals, PairTerm{0.0, 0.0});
            is_zero_.push_back(is_zero);
        }
    }
    return has_changed;
}

// Whether the reciprocal sum holds all of a pair's energy, as for two of the widest Gaussians.
bool GaussianPairs::is_complete(int i, int j) const {
    return !tables_.empty() && is_zero_[kind_of_[i] * kinds_.size() + kind_of_[j]];
}

void GaussianPairs::set_pairs(int n, const double *widths, const PairList &list, bool is_new) {
    if (set_kinds(n, widths) || is_new) has_rows_ = false;
    if (has_rows_) return;
    set_rows(list);
    values_.resize(second_.size());
    slopes_.resize(second_.size());
    has_rows_ = true;
}

// Sorts the pairs of each run with the same first atom by their shifts, of which there are few.
void GaussianPairs::set_rows(const PairList &list) {
    rows_.clear();
    second_.clear();
    second_.reserve(list.n);
    std::vector<Row> parts;  // of one run; `end` counts until the places are known
    std::vector<std::int32_t> kept, part_of;
    for (std::size_t start = 0, stop; start < list.n; start = stop) {
        const std::int32_t i = list.first[start];
        parts.clear();
        kept.clear();
        part_of.clear();
        std::size_t part = 0;
        for (stop = start; stop < list.n && list.first[stop] == i; ++stop) {
            const std::int32_t j = list.second[stop], *shift = list.shifts + 3 * stop;
            if (!list.has_each_pair_once) {
                const bool is_backward = std::lexicographical_compare(shift, shift + 3, no_shift, no_shift + 3);
                if (i > j || (i == j && is_backward)) continue;
            }
            if (is_complete(i, j)) continue;
            const std::array<std::int32_t, 3> wanted{shift[0], shift[1], shift[2]};
            if (parts.empty() || parts[part].shift != wanted) {
                const auto known =
                    std::find_if(parts.begin(), parts.end(), [&](const Row &row) { return row.shift == wanted; });
                part = known - parts.begin();
                if (known == parts.end()) parts.push_back({i, wanted, 0, 0});
            }
            ++parts[part].end;
            kept.push_back(j);
            part_of.push_back(static_cast<std::int32_t>(part));
        }
        for (Row &row : parts) {
            row.begin = second_.size();
            second_.resize(row.begin + row.end);
            row.end = row.begin;
        }
        for (std::size_t k = 0; k < kept.size(); ++k)
            second_[parts[part_of[k]].end++] = kept[k];
        rows_.insert(rows_.end(), parts.begin(), parts.end());
    }
}

std::array<double, 3> GaussianPairs::translation(const Row &row) const {
    std::array<double, 3> sum{};
    for (int d = 0; d < 3; ++d) {
        for (int c = 0; c < 3; ++c)
            sum[c] += row.shift[d] * cell_[d][c];
    }
    return sum;
}

void GaussianPairs::set_positions(const double *positions, const Cell &cell) {
    positions_ = positions;
    cell_ = cell;
    for (const Row &row : rows_) {
        const auto shift = translation(row);
        const double *x = positions + 3 * std::size_t(row.first);
        const double origin[3] = {x[0] - shift[0], x[1] - shift[1], x[2] - shift[2]};
        const int kind = kind_of_[row.first];
        if (!tables_.empty()) {
            interpolate(row.begin, row.end, positions, origin, kind_of_.data(),
                        &tables_[kind * kinds_.size() * n_knots], n_intervals / cutoff_,
                        {second_.data(), values_.data(), slopes_.data()});
            continue;
        }
        for (std::size_t p = row.begin; p < row.end; ++p) {
            const double *y = positions + 3 * std::size_t(second_[p]);
            const double d =
                std::sqrt(std::max((y[0] - origin[0]) * (y[0] - origin[0]) + (y[1] - origin[1]) * (y[1] - origin[1]) +
                                       (y[2] - origin[2]) * (y[2] - origin[2]),
                                   smallest_squared));
            const double a = kinds_[kind], b = kinds_[kind_of_[second_[p]]];
            const PairTerm term = d < cutoff_ ? missing_pair_term(d, a * a + b * b, alpha_, cutoff_) : PairTerm{};
            values_[p] = term.value;
            slopes_[p] = term.slope / d;
        }
    }
}

void GaussianPairs::apply(const double *charges, double *potentials) const {
    for (const Row &row : rows_) {
        potentials[row.first] += apply_row(row.end - row.begin, &second_[row.begin], &values_[row.begin], charges,
                                           charges[row.first], potentials);
    }
}

double GaussianPairs::add_forces(const double *charges, double *forces, double *virial) const {
    double energy = 0.0;
    std::vector<double> own(3 * kind_of_.size(), 0.0);  // of the pairs alone
    for (const Row &row : rows_) {
        const auto shift = translation(row);
        const double *x = positions_ + 3 * std::size_t(row.first);
        const double origin[3] = {x[0] - shift[0], x[1] - shift[1], x[2] - shift[2]};
        const auto sums = force_row(row.end - row.begin, &second_[row.begin], &values_[row.begin], &slopes_[row.begin],
                                    positions_, origin, charges, charges[row.first], own.data());
        energy += charges[row.first] * sums[3];
        for (int c = 0; c < 3; ++c) {
            own[3 * std::size_t(row.first) + c] += sums[c];
            for (int b = 0; b < 3; ++b)  // what the second atoms' places below leave out
                virial[3 * b + c] -= shift[b] * sums[c];
        }
    }
    for (std::size_t i = 0; i < kind_of_.size(); ++i) {
        for (int c = 0; c < 3; ++c) {
            forces[3 * i + c] += own[3 * i + c];
            for (int b = 0; b < 3; ++b)
                virial[3 * b + c] += positions_[3 * i + b] * own[3 * i + c];
        }
    }
    return energy;
}

}  // namespace qnep
