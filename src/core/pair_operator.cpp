#include "pair_operator.h"

#include <array>
#include <stdexcept>
#include <string>

#include "every_simd.h"
#include "parallel.h"

namespace qnep {
namespace {

template <typename Real>
using Vector = std::array<Real, 3>;

/// Add one pair vector G_ij to what is wanted of its sums.
template <typename Real>
QNEP_INLINE void add_pair(const PairSums<Real> &sums, int frame, std::int64_t i, std::int64_t j, const Real *r,
                          const Vector<Real> &g) {
    for (int b = 0; b < 3; ++b) {
        if (sums.forces != nullptr) {
            sums.forces[3 * i + b] += g[b];
            sums.forces[3 * j + b] -= g[b];
        }
        for (int a = 0; a < 3; ++a) {
            const Real moment = r[a] * g[b];
            if (sums.virials != nullptr) {
                sums.virials[9 * frame + 3 * a + b] -= moment;
            }
            if (sums.born_charges != nullptr) {
                sums.born_charges[9 * i + 3 * a + b] += Real(0.5) * moment;
                sums.born_charges[9 * j + 3 * a + b] -= Real(0.5) * moment;
            }
        }
    }
}

/// Gradient of the loss with respect to one pair vector G_ij.
template <typename Real>
QNEP_INLINE Vector<Real> pair_gradient(const PairSums<Real> &gradients, int frame, std::int64_t i, std::int64_t j,
                                       const Real *r) {
    Vector<Real> g{};
    for (int b = 0; b < 3; ++b) {
        if (gradients.forces != nullptr) {
            g[b] += gradients.forces[3 * i + b] - gradients.forces[3 * j + b];
        }
        for (int a = 0; a < 3; ++a) {
            const int c = 3 * a + b;
            if (gradients.virials != nullptr) {
                g[b] -= r[a] * gradients.virials[9 * frame + c];
            }
            if (gradients.born_charges != nullptr) {
                g[b] += Real(0.5) * r[a] * (gradients.born_charges[9 * i + c] - gradients.born_charges[9 * j + c]);
            }
        }
    }
    return g;
}

template <typename Real>
QNEP_INLINE void sum_radial(const RadialPairs<Real> &pairs, int frame, std::int64_t i, const Real *derivative,
                            const PairSums<Real> &sums) {
    for (std::int64_t p = pairs.rows[i]; p < pairs.rows[i + 1]; ++p) {
        const Real *slope = pairs.slopes + p * pairs.n_basis;
        const Real *weight = derivative + static_cast<std::int64_t>(pairs.types[p]) * pairs.n_basis;
        Real magnitude = 0;
        for (int k = 0; k < pairs.n_basis; ++k) {
            magnitude += weight[k] * slope[k];
        }
        const Real *u = pairs.directions + 3 * p;
        add_pair<Real>(sums, frame, i, pairs.neighbors[p], pairs.vectors + 3 * p,
                       {magnitude * u[0], magnitude * u[1], magnitude * u[2]});
    }
}

template <typename Real>
QNEP_INLINE void spread_radial(const RadialPairs<Real> &pairs, int frame, std::int64_t i,
                               const PairSums<Real> &gradients, Real *derivative) {
    for (std::int64_t p = pairs.rows[i]; p < pairs.rows[i + 1]; ++p) {
        const Vector<Real> g = pair_gradient(gradients, frame, i, pairs.neighbors[p], pairs.vectors + 3 * p);
        const Real *u = pairs.directions + 3 * p;
        const Real magnitude = g[0] * u[0] + g[1] * u[1] + g[2] * u[2];
        const Real *slope = pairs.slopes + p * pairs.n_basis;
        Real *weight = derivative + static_cast<std::int64_t>(pairs.types[p]) * pairs.n_basis;
        for (int k = 0; k < pairs.n_basis; ++k) {
            weight[k] += magnitude * slope[k];
        }
    }
}

/// dE/dA of one centre atom: row `type * n_basis + k` is n_harmonics numbers long, rows are `stride` apart.
template <typename Real>
struct AngularRows {
    Real *data;
    std::int64_t stride;
};

template <typename Real, int n_harmonics>
QNEP_INLINE void sum_angular(const AngularPairs<Real> &pairs, int frame, std::int64_t i, AngularRows<Real> rows,
                             const PairSums<Real> &sums) {
    const RadialPairs<Real> &radial = pairs.radial;
    for (std::int64_t p = radial.rows[i]; p < radial.rows[i + 1]; ++p) {
        const Real *value = pairs.values + p * radial.n_basis;
        const Real *slope = radial.slopes + p * radial.n_basis;
        const Real *row = rows.data + radial.types[p] * radial.n_basis * rows.stride;
        Real along[n_harmonics] = {};   // sum over k of f_k' dE/dA
        Real across[n_harmonics] = {};  // sum over k of f_k dE/dA
        for (int k = 0; k < radial.n_basis; ++k, row += rows.stride) {
            for (int m = 0; m < n_harmonics; ++m) {
                along[m] += slope[k] * row[m];
                across[m] += value[k] * row[m];
            }
        }
        const Real *harmonic = pairs.harmonics + p * n_harmonics;
        const Real *gradient = pairs.gradients + 3 * p * n_harmonics;
        Real magnitude = 0, x = 0, y = 0, z = 0;
#pragma omp simd reduction(+ : magnitude, x, y, z)
        for (int m = 0; m < n_harmonics; ++m) {
            magnitude += along[m] * harmonic[m];
            x += across[m] * gradient[m];
            y += across[m] * gradient[n_harmonics + m];
            z += across[m] * gradient[2 * n_harmonics + m];
        }
        const Real *u = radial.directions + 3 * p;
        add_pair<Real>(sums, frame, i, radial.neighbors[p], radial.vectors + 3 * p,
                       {magnitude * u[0] + x, magnitude * u[1] + y, magnitude * u[2] + z});
    }
}

template <typename Real, int n_harmonics>
QNEP_INLINE void spread_angular(const AngularPairs<Real> &pairs, int frame, std::int64_t i,
                                const PairSums<Real> &gradients, AngularRows<Real> rows) {
    const RadialPairs<Real> &radial = pairs.radial;
    for (std::int64_t p = radial.rows[i]; p < radial.rows[i + 1]; ++p) {
        const Vector<Real> g = pair_gradient(gradients, frame, i, radial.neighbors[p], radial.vectors + 3 * p);
        const Real *u = radial.directions + 3 * p;
        const Real magnitude = g[0] * u[0] + g[1] * u[1] + g[2] * u[2];
        const Real *harmonic = pairs.harmonics + p * n_harmonics;
        const Real *gradient = pairs.gradients + 3 * p * n_harmonics;
        Real along[n_harmonics];
        Real across[n_harmonics];
        for (int m = 0; m < n_harmonics; ++m) {
            along[m] = magnitude * harmonic[m];
            across[m] = g[0] * gradient[m] + g[1] * gradient[n_harmonics + m] + g[2] * gradient[2 * n_harmonics + m];
        }
        const Real *value = pairs.values + p * radial.n_basis;
        const Real *slope = radial.slopes + p * radial.n_basis;
        Real *row = rows.data + radial.types[p] * radial.n_basis * rows.stride;
        for (int k = 0; k < radial.n_basis; ++k, row += rows.stride) {
            for (int m = 0; m < n_harmonics; ++m) {
                row[m] += slope[k] * along[m] + value[k] * across[m];
            }
        }
    }
}

template <typename Real>
struct Job {
    const BatchLayout &layout;
    const RadialPairs<Real> &radial;
    const AngularPairs<Real> &angular;
    const PairSums<Real> &sums;
    const DensityDerivatives<Real> &derivatives;
};

/// All centre atoms of one structure, by type. `is_transposed` is known where this is inlined.
template <typename Real, int n_harmonics, bool is_transposed>
QNEP_INLINE void process_frame(const Job<Real> &job, int frame) {
    const BatchLayout &layout = job.layout;
    for (int type = 0; type < layout.n_types; ++type) {
        const std::int64_t *block = layout.blocks + static_cast<std::int64_t>(type) * (layout.n_frames + 1);
        const std::int64_t n_of_type = block[layout.n_frames] - block[0];
        const std::int64_t n_radial = static_cast<std::int64_t>(layout.n_types) * job.radial.n_basis;
        for (std::int64_t i = block[frame]; i < block[frame + 1]; ++i) {
            const std::int64_t row = i - block[0];
            Real *radial = job.derivatives.radial[type] + row * n_radial;
            const AngularRows<Real> rows{job.derivatives.angular[type] + row * n_harmonics, n_of_type * n_harmonics};
            if constexpr (is_transposed) {
                spread_radial(job.radial, frame, i, job.sums, radial);
                spread_angular<Real, n_harmonics>(job.angular, frame, i, job.sums, rows);
            } else {
                sum_radial(job.radial, frame, i, radial, job.sums);
                sum_angular<Real, n_harmonics>(job.angular, frame, i, rows, job.sums);
            }
        }
    }
}

/// One entry for each width of the harmonics (l_max 1, 2 | 3 | 4 | 5 | 6 | 7 | 8), so that the inner loops have a
/// length known to the compiler. Not templates, because only plain functions can have clones for several processors.
#define QNEP_FRAME_FUNCTIONS(Real, n_harmonics)                                                                        \
    QNEP_EVERY_SIMD void sum_frame_##Real##_##n_harmonics(const Job<Real> &job, int frame) {                           \
        process_frame<Real, n_harmonics, false>(job, frame);                                                           \
    }                                                                                                                  \
    QNEP_EVERY_SIMD void spread_frame_##Real##_##n_harmonics(const Job<Real> &job, int frame) {                        \
        process_frame<Real, n_harmonics, true>(job, frame);                                                            \
    }
#define QNEP_ALL_WIDTHS(Real)                                                                                          \
    QNEP_FRAME_FUNCTIONS(Real, 8)                                                                                      \
    QNEP_FRAME_FUNCTIONS(Real, 16)                                                                                     \
    QNEP_FRAME_FUNCTIONS(Real, 24)                                                                                     \
    QNEP_FRAME_FUNCTIONS(Real, 40)                                                                                     \
    QNEP_FRAME_FUNCTIONS(Real, 48)                                                                                     \
    QNEP_FRAME_FUNCTIONS(Real, 64)                                                                                     \
    QNEP_FRAME_FUNCTIONS(Real, 80)                                                                                     \
    void (*frame_function(Real, int n_harmonics, bool is_transposed))(const Job<Real> &, int) {                        \
        switch (n_harmonics) {                                                                                         \
        case 8:                                                                                                        \
            return is_transposed ? spread_frame_##Real##_8 : sum_frame_##Real##_8;                                     \
        case 16:                                                                                                       \
            return is_transposed ? spread_frame_##Real##_16 : sum_frame_##Real##_16;                                   \
        case 24:                                                                                                       \
            return is_transposed ? spread_frame_##Real##_24 : sum_frame_##Real##_24;                                   \
        case 40:                                                                                                       \
            return is_transposed ? spread_frame_##Real##_40 : sum_frame_##Real##_40;                                   \
        case 48:                                                                                                       \
            return is_transposed ? spread_frame_##Real##_48 : sum_frame_##Real##_48;                                   \
        case 64:                                                                                                       \
            return is_transposed ? spread_frame_##Real##_64 : sum_frame_##Real##_64;                                   \
        case 80:                                                                                                       \
            return is_transposed ? spread_frame_##Real##_80 : sum_frame_##Real##_80;                                   \
        }                                                                                                              \
        throw std::invalid_argument("the number of harmonics must be that of l_max 1 ... 8 padded "                    \
                                    "to 8, got " +                                                                     \
                                    std::to_string(n_harmonics));                                                      \
    }

QNEP_ALL_WIDTHS(float)
QNEP_ALL_WIDTHS(double)

template <typename Real>
void process_frames(const Job<Real> &job, bool is_transposed) {
    const auto process = frame_function(Real(), job.angular.n_harmonics, is_transposed);
#pragma omp parallel for schedule(dynamic) num_threads(usable_threads(job.layout.n_threads))
    for (int frame = 0; frame < job.layout.n_frames; ++frame) {
        process(job, frame);
    }
}

}  // namespace

template <typename Real>
void sum_pairs(const BatchLayout &layout, const RadialPairs<Real> &radial, const AngularPairs<Real> &angular,
               const DensityDerivatives<Real> &derivatives, const PairSums<Real> &sums) {
    process_frames<Real>({layout, radial, angular, sums, derivatives}, false);
}

template <typename Real>
void sum_pairs_transposed(const BatchLayout &layout, const RadialPairs<Real> &radial, const AngularPairs<Real> &angular,
                          const PairSums<Real> &gradients, const DensityDerivatives<Real> &derivatives) {
    process_frames<Real>({layout, radial, angular, gradients, derivatives}, true);
}

template void sum_pairs(const BatchLayout &, const RadialPairs<float> &, const AngularPairs<float> &,
                        const DensityDerivatives<float> &, const PairSums<float> &);
template void sum_pairs(const BatchLayout &, const RadialPairs<double> &, const AngularPairs<double> &,
                        const DensityDerivatives<double> &, const PairSums<double> &);
template void sum_pairs_transposed(const BatchLayout &, const RadialPairs<float> &, const AngularPairs<float> &,
                                   const PairSums<float> &, const DensityDerivatives<float> &);
template void sum_pairs_transposed(const BatchLayout &, const RadialPairs<double> &, const AngularPairs<double> &,
                                   const PairSums<double> &, const DensityDerivatives<double> &);

}  // namespace qnep
