#include "pair_search.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "electrostatics_cell.h"
#include "every_simd.h"
#include "model.h"

namespace qnep {
namespace {

constexpr int most_bins = 64;  // per direction: more would be empty in any cell that is worth a pair sum

int floor_divide(int a, int b) {
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}

// Which of (i, j) and (j, i) is listed for two different atoms: about half of the pairs of every atom.
QNEP_INLINE bool is_listed(int i, int j) {
    return ((i + j) % 2 == 0) == (i < j);
}

struct Candidates {
    const double *x, *y, *z;  // [n], Å
    const int *atoms;         // [n]
    int n;
};

// Places of those that are listed with atom i (or are i itself) and nearer to the point than the range; how many.
QNEP_EVERY_SIMD
int select_near(const Candidates &of, int i, const double *point, double range_squared, double *squared, int *places) {
    for (int k = 0; k < of.n; ++k) {
        const double x = of.x[k] - point[0], y = of.y[k] - point[1], z = of.z[k] - point[2];
        squared[k] = x * x + y * y + z * z;
    }
    int n_near = 0;
    for (int k = 0; k < of.n; ++k) {  // no branch: which are near is not to be foreseen
        const int j = of.atoms[k];
        places[n_near] = k;
        n_near += (squared[k] < range_squared) & (is_listed(i, j) | (i == j));
    }
    return n_near;
}

// Atoms in boxes along the cell vectors, and the whole cell vectors by which each was moved to get there. Boxes that
// follow each other along the third vector hold consecutive atoms.
struct Bins {
    std::array<int, 3> counts, reach;  // reach: boxes to look at on either side
    std::vector<std::array<double, 3>> wrapped;
    std::vector<std::array<int, 3>> images;
    std::vector<int> start, atoms;
    std::array<std::vector<double>, 3> sorted;  // positions in the order of `atoms`

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
        for (int c = 0; c < 3; ++c) {
            for (int i : atoms)
                sorted[c].push_back(wrapped[i][c]);
        }
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
    std::vector<double> squared(n);
    std::vector<int> places(n + 1);
    // Boxes box ... last along the third vector, all in the same image of the cell.
    const auto look_into = [&](int i, const std::array<int, 3> &turns, const std::array<int, 3> &box, int last) {
        std::array<double, 3> point;
        for (int c = 0; c < 3; ++c)
            point[c] = bins.wrapped[i][c] - turns[0] * cell[0][c] - turns[1] * cell[1][c] - turns[2] * cell[2][c];
        const int row = (box[0] * bins.counts[1] + box[1]) * bins.counts[2];
        const int from = bins.start[row + box[2]], to = bins.start[row + last + 1];
        const Candidates candidates{bins.sorted[0].data() + from, bins.sorted[1].data() + from,
                                    bins.sorted[2].data() + from, bins.atoms.data() + from, to - from};
        const int n_near = select_near(candidates, i, point.data(), range * range, squared.data(), places.data());
        for (int k = 0; k < n_near; ++k) {
            const int j = candidates.atoms[places[k]];
            std::array<int, 3> shift;
            for (int d = 0; d < 3; ++d)
                shift[d] = turns[d] - bins.images[j][d] + bins.images[i][d];
            if (i == j && !(shift > std::array<int, 3>{0, 0, 0})) continue;
            first_.push_back(i);
            second_.push_back(j);
            shifts_.insert(shifts_.end(), shift.begin(), shift.end());
        }
    };
    for (int i = begin; i < end; ++i) {
        const auto home = bins.box_of(i);
        std::array<int, 3> turns, box;
        for (int x = home[0] - bins.reach[0]; x <= home[0] + bins.reach[0]; ++x) {
            turns[0] = floor_divide(x, bins.counts[0]);
            box[0] = x - turns[0] * bins.counts[0];
            for (int y = home[1] - bins.reach[1]; y <= home[1] + bins.reach[1]; ++y) {
                turns[1] = floor_divide(y, bins.counts[1]);
                box[1] = y - turns[1] * bins.counts[1];
                const int end_z = home[2] + bins.reach[2] + 1;
                for (int z = home[2] - bins.reach[2], next; z < end_z; z = next) {
                    turns[2] = floor_divide(z, bins.counts[2]);
                    next = std::min(end_z, (turns[2] + 1) * bins.counts[2]);
                    box[2] = z - turns[2] * bins.counts[2];
                    look_into(i, turns, box, box[2] + next - z - 1);
                }
            }
        }
    }
}

}  // namespace qnep
