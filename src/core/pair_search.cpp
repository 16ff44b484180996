#include "pair_search.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "electrostatics_cell.h"
#include "model.h"

namespace qnep {
namespace {

constexpr int most_bins = 64;  // per direction: more would be empty in any cell that is worth a pair sum

// Which of (i, j) and (j, i) is listed: about half of the pairs of every atom.
bool is_listed(int i, int j, const std::array<int, 3> &shift) {
    if (i != j) return ((i + j) % 2 == 0) == (i < j);
    return shift > std::array<int, 3>{0, 0, 0};
}

// Atoms in boxes along the cell vectors, and the whole cell vectors by which each was moved to get there.
struct Bins {
    std::array<int, 3> counts, reach;  // reach: boxes to look at on either side
    std::vector<std::array<double, 3>> wrapped;
    std::vector<std::array<int, 3>> images;
    std::vector<int> start, atoms;

    Bins(int n, const double *positions, const Cell &cell, double range):
        wrapped(n), images(n), atoms(n), geometry_(cell) {
        for (int d = 0; d < 3; ++d) {
            // Boxes of half the range hold fewer candidates that are too far away.
            counts[d] = std::clamp(static_cast<int>(2.0 * geometry_.thicknesses[d] / range), 1, most_bins);
            reach[d] = static_cast<int>(std::ceil(range * counts[d] / geometry_.thicknesses[d] - 1e-12));
        }
        std::vector<int> home(n);
        start.assign(std::size_t(counts[0]) * counts[1] * counts[2] + 1, 0);
        for (int i = 0; i < n; ++i) {
            home[i] = place(i, positions + 3 * std::size_t(i), cell);
            ++start[home[i] + 1];
        }
        for (std::size_t b = 1; b < start.size(); ++b)
            start[b] += start[b - 1];
        std::vector<int> next(start);
        for (int i = 0; i < n; ++i)
            atoms[next[home[i]]++] = i;
    }

    std::array<int, 3> box_of(int i) const {
        const auto s = fractions(wrapped[i].data());
        std::array<int, 3> box;
        for (int d = 0; d < 3; ++d)
            box[d] = std::clamp(static_cast<int>(s[d] * counts[d]), 0, counts[d] - 1);
        return box;
    }

private:
    std::array<double, 3> fractions(const double *x) const {
        std::array<double, 3> s;
        for (int d = 0; d < 3; ++d)
            s[d] = geometry_.inverse[d][0] * x[0] + geometry_.inverse[d][1] * x[1] + geometry_.inverse[d][2] * x[2];
        return s;
    }
    int place(int i, const double *x, const Cell &cell) {
        const auto s = fractions(x);
        for (int d = 0; d < 3; ++d)
            images[i][d] = static_cast<int>(std::floor(s[d]));
        for (int c = 0; c < 3; ++c)
            wrapped[i][c] = x[c] - images[i][0] * cell[0][c] - images[i][1] * cell[1][c] - images[i][2] * cell[2][c];
        const auto box = box_of(i);
        return (box[0] * counts[1] + box[1]) * counts[2] + box[2];
    }
    ReciprocalCell geometry_;
};

}  // namespace

PairSearch::PairSearch(double cutoff, double skin): cutoff_(cutoff), skin_(skin) {
    if (!(cutoff > 0.0) || !(skin > 0.0)) {
        throw InputError("cutoff and skin of a pair list must be positive, got " + std::to_string(cutoff) + " and " +
                         std::to_string(skin));
    }
}

bool PairSearch::is_valid(int n, const double *positions, const Cell &cell) const {
    if (!is_built_ || reference_.size() != 3 * std::size_t(n) || cell != cell_) return false;
    const double limit = 0.25 * skin_ * skin_;
    for (std::size_t i = 0; i < reference_.size(); i += 3) {
        const double x = positions[i] - reference_[i], y = positions[i + 1] - reference_[i + 1],
                     z = positions[i + 2] - reference_[i + 2];
        if (!(x * x + y * y + z * z < limit)) return false;
    }
    return true;
}

bool PairSearch::update(int n, const double *positions, const Cell &cell, int part, int n_parts) {
    if (is_valid(n, positions, cell)) return false;
    for (std::size_t k = 0; k < 3 * std::size_t(n); ++k) {
        if (!std::isfinite(positions[k])) {
            throw InputError("positions must be finite, got " + std::to_string(positions[k]) + " for atom " +
                             std::to_string(k / 3));
        }
    }
    build(n, positions, cell, part, n_parts);
    reference_.assign(positions, positions + 3 * std::size_t(n));
    cell_ = cell;
    is_built_ = true;
    return true;
}

void PairSearch::build(int n, const double *positions, const Cell &cell, int part, int n_parts) {
    const double range = cutoff_ + skin_;
    const Bins bins(n, positions, cell, range);
    first_.clear();
    second_.clear();
    shifts_.clear();
    const auto begin = static_cast<int>(std::int64_t(n) * part / n_parts);
    const auto end = static_cast<int>(std::int64_t(n) * (part + 1) / n_parts);
    const auto look_into = [&](int i, const std::array<int, 3> &box) {
        std::array<int, 3> turns, wrapped;
        for (int d = 0; d < 3; ++d) {
            turns[d] = box[d] >= 0 ? box[d] / bins.counts[d] : -((bins.counts[d] - 1 - box[d]) / bins.counts[d]);
            wrapped[d] = box[d] - turns[d] * bins.counts[d];
        }
        std::array<double, 3> origin;
        for (int c = 0; c < 3; ++c)
            origin[c] = turns[0] * cell[0][c] + turns[1] * cell[1][c] + turns[2] * cell[2][c] - bins.wrapped[i][c];
        const int b = (wrapped[0] * bins.counts[1] + wrapped[1]) * bins.counts[2] + wrapped[2];
        for (int place = bins.start[b]; place < bins.start[b + 1]; ++place) {
            const int j = bins.atoms[place];
            const double x = bins.wrapped[j][0] + origin[0], y = bins.wrapped[j][1] + origin[1],
                         z = bins.wrapped[j][2] + origin[2];
            if (x * x + y * y + z * z >= range * range) continue;
            std::array<int, 3> shift;
            for (int d = 0; d < 3; ++d)
                shift[d] = turns[d] - bins.images[j][d] + bins.images[i][d];
            if (!is_listed(i, j, shift)) continue;
            first_.push_back(i);
            second_.push_back(j);
            shifts_.insert(shifts_.end(), shift.begin(), shift.end());
        }
    };
    for (int i = begin; i < end; ++i) {
        const auto home = bins.box_of(i);
        std::array<int, 3> box;
        for (box[0] = home[0] - bins.reach[0]; box[0] <= home[0] + bins.reach[0]; ++box[0]) {
            for (box[1] = home[1] - bins.reach[1]; box[1] <= home[1] + bins.reach[1]; ++box[1]) {
                for (box[2] = home[2] - bins.reach[2]; box[2] <= home[2] + bins.reach[2]; ++box[2])
                    look_into(i, box);
            }
        }
    }
}

}  // namespace qnep
