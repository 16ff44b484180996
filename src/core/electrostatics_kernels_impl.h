// Inner loops of the Ewald sum and of the particle mesh. Included by one file per instruction set, see simd.h.
#pragma once

#include <algorithm>
#include <complex>
#include <vector>

#include <unsupported/Eigen/FFT>

#include "constants.h"
#include "electrostatics_kernels.h"
#include "parallel.h"
#include "simd.h"

// Eigen's transform keeps its factors in these: taken from a file that is compiled for every processor.
extern template class std::vector<int>;

namespace qnep::QNEP_SIMD_NAMESPACE {
namespace {

// ---------------------------------------------------------------------------------------------------------- Ewald

// cos and sin of 2 pi x: the nearest quarter turn, and Taylor polynomials below 1e-16 for the rest |delta| <= pi/4.
inline void cosine_and_sine(VectorOf<double> x, VectorOf<double> &cosine, VectorOf<double> &sine) {
    constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52: rounds to whole numbers
    using V = VectorOf<double>;
    x -= (x + magic) - magic;
    const V quarter = (4.0 * x + magic) - magic;
    const V delta = (x - 0.25 * quarter) * (2.0 * pi);
    const V square = delta * delta;
    V s = square * (1.0 / 355687428096000.0) - (1.0 / 1307674368000.0);
    for (double coefficient :
         {1.0 / 6227020800.0, -1.0 / 39916800.0, 1.0 / 362880.0, -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0})
        s = s * square + coefficient;
    s = s * square * delta + delta;
    V c = square * (1.0 / 20922789888000.0) - (1.0 / 87178291200.0);
    for (double coefficient : {1.0 / 479001600.0, -1.0 / 3628800.0, 1.0 / 40320.0, -1.0 / 720.0, 1.0 / 24.0, -0.5, 1.0})
        c = c * square + coefficient;
    const V turned = quarter * quarter;  // 0: not, 1: by a quarter, 4: by half
    cosine = turned == 1.0 ? V(-quarter * s) : (turned == 0.0 ? c : V(-c));
    sine = turned == 1.0 ? V(quarter * c) : (turned == 0.0 ? s : V(-s));
}

template <typename Real>
void first_powers(const double *fractional, Real *cosines, Real *sines) {
    constexpr int width = Simd<double>::width;
    for (int a = 0; a < ewald_block; a += width) {
        VectorOf<double> cosine, sine;
        cosine_and_sine(load(fractional + a), cosine, sine);
        for (int lane = 0; lane < width; ++lane) {
            cosines[a + lane] = static_cast<Real>(cosine[lane]);
            sines[a + lane] = static_cast<Real>(sine[lane]);
        }
    }
}

template <typename Real>
void powers_of_axis(int n_max, Real *cosines, Real *sines) {
    using Vector = VectorOf<Real>;
    for (int a = 0; a < ewald_block; a += Simd<Real>::width) {
        const Vector c1 = load(cosines + ewald_block + a), s1 = load(sines + ewald_block + a);
        Vector c = broadcast(Real(1)), s{};
        store(cosines + a, c);
        store(sines + a, s);
        for (int n = 1; n <= n_max; ++n) {
            const Vector next = c * c1 - s * s1;
            s = s * c1 + c * s1;
            c = next;
            store(cosines + n * ewald_block + a, c);
            store(sines + n * ewald_block + a, s);
        }
    }
}

template <typename Real>
void phase_powers(EwaldPhases<Real> &phases) {
    constexpr int width = Simd<Real>::width;
    for (int axis = 0; axis < 3; ++axis) {
        first_powers(phases.fractional[axis], phases.cosines[axis] + ewald_block, phases.sines[axis] + ewald_block);
        powers_of_axis(phases.n_max[axis], phases.cosines[axis], phases.sines[axis]);
    }
    for (int n = 0; n <= phases.n_max[2]; ++n) {
        for (int a = n * ewald_block; a < (n + 1) * ewald_block; a += width) {
            store(phases.weighted_cosines + a, static_cast<Real>(n) * load(phases.cosines[2] + a));
            store(phases.weighted_sines + a, static_cast<Real>(n) * load(phases.sines[2] + a));
        }
    }
}

// The four products of cos and sin of the first two axes.
template <typename Real>
struct PlaneFactors {
    using Vector = VectorOf<Real>;
    Vector value[4];
    PlaneFactors(const EwaldRow &row, const EwaldPhases<Real> &phases, int a) {
        const Vector c1 = load(phases.cosines[0] + row.n1 * ewald_block + a);
        const Vector s1 = load(phases.sines[0] + row.n1 * ewald_block + a);
        const Vector c2 = load(phases.cosines[1] + row.n2 * ewald_block + a);
        const Vector s2 = load(phases.sines[1] + row.n2 * ewald_block + a);
        value[0] = c1 * c2;
        value[1] = c1 * s2;
        value[2] = s1 * c2;
        value[3] = s1 * s2;
    }
};

// Sums of one row over some blocks; the lanes of a sum are added up once, for all of them.
template <typename Real>
void structure_sums_of_row(const EwaldRow &row, const EwaldPhases<Real> *phases, std::size_t n_blocks,
                           Real (*factors)[4][ewald_block], double *to) {
    using Vector = VectorOf<Real>;
    constexpr int width = Simd<Real>::width;
    for (std::size_t b = 0; b < n_blocks; ++b) {
        for (int a = 0; a < ewald_block; a += width) {
            const PlaneFactors<Real> plane(row, phases[b], a);
            const Vector q = load(phases[b].charges + a);
            for (int c = 0; c < 4; ++c)
                store(factors[b][c] + a, q * plane.value[c]);
        }
    }
    for (int n = row.first; n < row.last; ++n, to += 8) {
        Vector sum[8] = {};
        for (std::size_t b = 0; b < n_blocks; ++b) {
            const Real *cosines = phases[b].cosines[2] + n * ewald_block, *sines = phases[b].sines[2] + n * ewald_block;
            for (int a = 0; a < ewald_block; a += width) {
                const Vector c3 = load(cosines + a), s3 = load(sines + a);
                for (int c = 0; c < 4; ++c) {
                    const Vector factor = load(factors[b][c] + a);
                    sum[2 * c] += factor * c3;
                    sum[2 * c + 1] += factor * s3;
                }
            }
        }
        Real folded[8];
        sum_four(sum[0], sum[1], sum[2], sum[3], folded);
        sum_four(sum[4], sum[5], sum[6], sum[7], folded + 4);
        for (int c = 0; c < 8; ++c)
            to[c] += folded[c];
    }
}

template <typename Real>
void structure_sums(const EwaldRow *rows, std::size_t n_rows, const EwaldPhases<Real> *phases, std::size_t n_blocks,
                    double *sums) {
    constexpr std::size_t group = 4;  // blocks: their factors stay in the first cache
    alignas(64) Real factors[group][4][ewald_block];
    for (std::size_t first = 0; first < n_blocks; first += group) {
        for (const EwaldRow *row = rows; row != rows + n_rows; ++row) {
            structure_sums_of_row(*row, phases + first, std::min(group, n_blocks - first), factors,
                                  sums + 8 * row->offset);
        }
    }
}

template <bool with_gradient, typename Real>
void evaluate_fields(const EwaldRow *rows, std::size_t n_rows, const EwaldPhases<Real> &phases,
                     const Real *coefficients, EwaldFields<Real> &fields) {
    using Vector = VectorOf<Real>;
    constexpr int width = Simd<Real>::width;
    for (int a = 0; a < ewald_block; a += width) {
        Vector potential{}, gradient1{}, gradient2{}, gradient3{};
        for (const EwaldRow *row = rows; row != rows + n_rows; ++row) {
            Vector value[4] = {}, slope[4] = {};
            const Real *from = coefficients + 8 * row->offset;
            for (int n = row->first; n < row->last; ++n, from += 8) {
                const int at = n * ewald_block + a;
                const Vector c3 = load(phases.cosines[2] + at), s3 = load(phases.sines[2] + at);
                for (int c = 0; c < 4; ++c)
                    value[c] += from[2 * c] * c3 + from[2 * c + 1] * s3;
                if constexpr (with_gradient) {
                    const Vector nc3 = load(phases.weighted_cosines + at), ns3 = load(phases.weighted_sines + at);
                    for (int c = 0; c < 4; ++c)
                        slope[c] += from[2 * c + 1] * nc3 - from[2 * c] * ns3;
                }
            }
            const PlaneFactors<Real> plane(*row, phases, a);
            const Vector *f = plane.value;
            potential += (f[0] * value[0] + f[1] * value[1]) + (f[2] * value[2] + f[3] * value[3]);
            if constexpr (with_gradient) {
                gradient1 += static_cast<Real>(row->n1) *
                             ((f[0] * value[2] + f[1] * value[3]) - (f[2] * value[0] + f[3] * value[1]));
                gradient2 += static_cast<Real>(row->n2) *
                             ((f[0] * value[1] - f[1] * value[0]) + (f[2] * value[3] - f[3] * value[2]));
                gradient3 += (f[0] * slope[0] + f[1] * slope[1]) + (f[2] * slope[2] + f[3] * slope[3]);
            }
        }
        store(fields.potential + a, potential);
        store(fields.gradient[0] + a, gradient1);
        store(fields.gradient[1] + a, gradient2);
        store(fields.gradient[2] + a, gradient3);
    }
}

// ----------------------------------------------------------------------------------------------------------- mesh

// Stencil of one atom: first mesh point of each axis, weights and their derivatives.
template <int order, typename Real>
struct Stencil {
    static constexpr int padded = order <= 4 ? 4 : 8;
    static constexpr int width = Simd<Real>::width < padded ? Simd<Real>::width : padded;  // of a vector
    static constexpr int n_vectors = padded / width;
    typedef Real Vector __attribute__((vector_size(width * sizeof(Real))));
    typedef Real Unaligned __attribute__((vector_size(width * sizeof(Real)), aligned(sizeof(Real)), may_alias));

    int base[3];
    alignas(64) Real weight[3][8];
    alignas(64) Real slope[3][8];

    static Real sum(Vector value) {
        for (int half = width / 2; half > 0; half /= 2) {
            for (int lane = 0; lane < half; ++lane)
                value[lane] += value[lane + half];
        }
        return value[0];
    }
    static Vector load(const Real *from) { return *reinterpret_cast<const Unaligned *>(from); }
    static void store(Real *to, Vector value) { *reinterpret_cast<Unaligned *>(to) = value; }

    Stencil(const SplineTable<Real> &table, const MeshShape &shape, const double *scaled, bool with_slope) {
        for (int axis = 0; axis < 3; ++axis) {
            const int cell = static_cast<int>(scaled[axis]);
            base[axis] = cell - order + 1;
            if (base[axis] < 0) base[axis] += shape.n[axis];
            const Real x = static_cast<Real>(scaled[axis] - cell);
            horner(table.value, order, x, weight[axis]);
            if (with_slope) horner(table.derivative, order - 1, x, slope[axis]);
        }
    }

    static void horner(const Real (*coefficients)[8], int n, Real x, Real *to) {
        for (int part = 0; part < padded; part += width) {
            Vector sum = load(coefficients[n - 1] + part);
            for (int m = n - 2; m >= 0; --m)
                sum = sum * x + load(coefficients[m] + part);
            store(to + part, sum);
        }
    }
};

int next_index(int index, int size) {
    return index + 1 == size ? 0 : index + 1;
}

template <int order, typename Real>
void spread_order(const MeshShape &shape, const MeshAtoms &atoms, int first_plane, int last_plane, Real *mesh) {
    using S = Stencil<order, Real>;
    using Vector = typename S::Vector;
    constexpr int width = S::width;
    const SplineTable<Real> &table = spline_table<Real>(order);
    for (std::size_t i = atoms.first; i < atoms.last; ++i) {
        const S stencil(table, shape, atoms.scaled + 3 * i, false);
        Vector last[S::n_vectors];
        for (int v = 0; v < S::n_vectors; ++v)
            last[v] = static_cast<Real>(atoms.charges[i]) * S::load(stencil.weight[2] + v * width);
        for (int s = 0, x = stencil.base[0]; s < order; ++s, x = next_index(x, shape.n[0])) {
            if (x < first_plane || x >= last_plane) continue;
            Real *plane = mesh + static_cast<std::size_t>(x) * shape.n[1] * shape.row_length() + stencil.base[2];
            for (int t = 0, y = stencil.base[1]; t < order; ++t, y = next_index(y, shape.n[1])) {
                Real *row = plane + y * shape.row_length();
                const Real factor = stencil.weight[0][s] * stencil.weight[1][t];
                for (int v = 0; v < S::n_vectors; ++v) {
                    S::store(row + v * width, S::load(row + v * width) + factor * last[v]);
                }
            }
        }
    }
}

template <int order, typename Real>
void gather_order(const MeshShape &shape, const MeshAtoms &atoms, const Real *mesh, Real (*values)[4]) {
    using S = Stencil<order, Real>;
    using Vector = typename S::Vector;
    constexpr int width = S::width;
    const SplineTable<Real> &table = spline_table<Real>(order);
    for (std::size_t i = atoms.first; i < atoms.last; ++i) {
        const S stencil(table, shape, atoms.scaled + 3 * i, true);
        Vector potential[S::n_vectors] = {}, along_x[S::n_vectors] = {}, along_y[S::n_vectors] = {};
        for (int s = 0, x = stencil.base[0]; s < order; ++s, x = next_index(x, shape.n[0])) {
            const Real *plane = mesh + static_cast<std::size_t>(x) * shape.n[1] * shape.row_length() + stencil.base[2];
            Vector weighted[S::n_vectors] = {}, sloped[S::n_vectors] = {};
            for (int t = 0, y = stencil.base[1]; t < order; ++t, y = next_index(y, shape.n[1])) {
                const Real *row = plane + y * shape.row_length();
                for (int v = 0; v < S::n_vectors; ++v) {
                    const Vector value = S::load(row + v * width);
                    weighted[v] += stencil.weight[1][t] * value;
                    sloped[v] += stencil.slope[1][t] * value;
                }
            }
            for (int v = 0; v < S::n_vectors; ++v) {
                potential[v] += stencil.weight[0][s] * weighted[v];
                along_x[v] += stencil.slope[0][s] * weighted[v];
                along_y[v] += stencil.weight[0][s] * sloped[v];
            }
        }
        Vector sums[4] = {};
        for (int v = 0; v < S::n_vectors; ++v) {
            const Vector weight = S::load(stencil.weight[2] + v * width);
            const Vector slope = S::load(stencil.slope[2] + v * width);
            sums[0] += weight * potential[v];
            sums[1] += weight * along_x[v];
            sums[2] += weight * along_y[v];
            sums[3] += slope * potential[v];
        }
        for (int c = 0; c < 4; ++c)
            values[i][c] = S::sum(sums[c]);
    }
}

template <typename Real>
void spread(int order, const MeshShape &shape, const MeshAtoms &atoms, int first_plane, int last_plane, Real *mesh) {
    static constexpr decltype(&spread_order<3, Real>) by_order[] = {spread_order<3, Real>, spread_order<4, Real>,
                                                                    spread_order<5, Real>, spread_order<6, Real>,
                                                                    spread_order<7, Real>, spread_order<8, Real>};
    by_order[order - spline_order_min](shape, atoms, first_plane, last_plane, mesh);
}

template <typename Real>
void gather(int order, const MeshShape &shape, const MeshAtoms &atoms, const Real *mesh, Real (*values)[4]) {
    static constexpr decltype(&gather_order<3, Real>) by_order[] = {gather_order<3, Real>, gather_order<4, Real>,
                                                                    gather_order<5, Real>, gather_order<6, Real>,
                                                                    gather_order<7, Real>, gather_order<8, Real>};
    by_order[order - spline_order_min](shape, atoms, mesh, values);
}

// ------------------------------------------------------------------------------------------------------ transform

// A number for Eigen's mixed-radix transform that is a whole vector: one transform works on `width` lines.
template <typename Real>
struct Lanes {
    using Vector = VectorOf<Real>;
    Vector v{};
    Lanes() = default;
    Lanes(double value): v(broadcast(static_cast<Real>(value))) {}
    explicit Lanes(const Vector &value): v(value) {}
    Lanes &operator+=(const Lanes &other) { return v += other.v, *this; }
    Lanes &operator-=(const Lanes &other) { return v -= other.v, *this; }
    Lanes &operator*=(const Lanes &other) { return v *= other.v, *this; }
    friend Lanes operator+(const Lanes &a, const Lanes &b) { return Lanes(a.v + b.v); }
    friend Lanes operator-(const Lanes &a, const Lanes &b) { return Lanes(a.v - b.v); }
    friend Lanes operator*(const Lanes &a, const Lanes &b) { return Lanes(a.v * b.v); }
    friend Lanes operator-(const Lanes &a) { return Lanes(-a.v); }
};
template <typename Real>
using ComplexLanes = std::complex<Lanes<Real>>;

// Transforms of one length, forward and backward.
template <typename Real>
class LineTransform {
public:
    void prepare(int n) {
        for (bool inverse : {false, true}) {
            plans_[inverse].make_twiddles(n, inverse);
            plans_[inverse].factorize(n);
        }
    }
    void forward(ComplexLanes<Real> *to, const ComplexLanes<Real> *from, std::size_t stride) {
        plans_[0].work(0, to, from, 1, stride);
    }
    void backward(ComplexLanes<Real> *to, const ComplexLanes<Real> *from, std::size_t stride) {
        plans_[1].work(0, to, from, 1, stride);
    }

private:
    Eigen::internal::kiss_cpx_fft<Lanes<Real>> plans_[2];
};

template <typename Real>
class LaneTransform final : public MeshTransform<Real> {
    using MeshTransform<Real>::shape_;
    using MeshTransform<Real>::n_blocks;
    using Vector = VectorOf<Real>;
    using Number = Lanes<Real>;
    using Complex = ComplexLanes<Real>;
    using Line = LineTransform<Real>;
    static constexpr int width = Simd<Real>::width;

public:
    explicit LaneTransform(const MeshShape &shape): MeshTransform<Real>(shape), workers_(shape.n_threads) {
        const std::size_t size = static_cast<std::size_t>(shape.n[0]) * shape.n_planes() * n_blocks();
        spectrum_.resize(size);
        filtered_.resize(size);
        const std::size_t plane = static_cast<std::size_t>(shape.n[0]) * n_blocks();
        const std::size_t longest = std::max({shape.n[0], shape.n[1], shape.n[2]});
        for (Worker &worker : workers_) {
            for (int axis = 0; axis < 3; ++axis)
                worker.lines[axis].prepare(shape.n[axis]);
            worker.input.resize(std::max(longest, plane));
            worker.output.resize(longest);
            worker.column.resize(shape.n[1]);
            worker.plane.resize(static_cast<std::size_t>(shape.n[1]) * n_blocks());
        }
    }

    int lanes() const override { return width; }

    void forward(Real *mesh) override {
        parallel_ranges(shape_.n_threads, shape_.n[0], [&](std::size_t begin, std::size_t end, int thread) {
            for (std::size_t x = begin; x < end; ++x) {
                Worker &worker = workers_[thread];
                Real *plane = mesh + x * shape_.n[1] * shape_.row_length();
                for (int y = 0; y < shape_.n[1]; y += 2 * width)
                    rows_forward(worker, plane, y, worker.plane.data());
                for (int block = 0; block < n_blocks(); ++block)
                    column_forward(worker, block, spectrum_.data() + x * shape_.n_planes() * n_blocks());
            }
        });
    }

    void apply(const Real *filter, Real *power) override {
        parallel_ranges(shape_.n_threads, shape_.n_planes(), [&](std::size_t begin, std::size_t end, int thread) {
            for (std::size_t plane = begin; plane < end; ++plane)
                filter_plane(workers_[thread], plane, filter, power);
        });
    }

    void backward(Real *mesh) override {
        parallel_ranges(shape_.n_threads, shape_.n[0], [&](std::size_t begin, std::size_t end, int thread) {
            for (std::size_t x = begin; x < end; ++x) {
                Worker &worker = workers_[thread];
                Real *plane = mesh + x * shape_.n[1] * shape_.row_length();
                for (int block = 0; block < n_blocks(); ++block)
                    column_backward(worker, block, filtered_.data() + x * shape_.n_planes() * n_blocks());
                for (int y = 0; y < shape_.n[1]; y += 2 * width)
                    rows_backward(worker, worker.plane.data(), y, plane);
            }
        });
    }

private:
    static constexpr Real half = Real(0.5);

    struct Worker {
        Line lines[3];
        std::vector<Complex> input, output;
        std::vector<Complex> column;  // zero at frequencies that are not kept
        std::vector<Complex> plane;   // [n[1]][n_blocks], between its rows and its columns
    };

    Real *row(Real *plane, int y) const { return plane + y * shape_.row_length(); }

    // Real rows y ... y + 2 width - 1, two to a lane as real and imaginary part. Rows past the end repeat the last.
    void rows_forward(Worker &worker, Real *plane, int y, Complex *to) const {
        const int n = shape_.n[2], last = shape_.n[1] - 1;
        Real *first[width], *second[width];
        for (int lane = 0; lane < width; ++lane) {
            first[lane] = row(plane, std::min(y + 2 * lane, last));
            second[lane] = row(plane, std::min(y + 2 * lane + 1, last));
        }
        for (int r = y; r < std::min(y + 2 * width, shape_.n[1]); ++r) {
            for (int ghost = 0; ghost < shape_.n_ghosts; ++ghost)
                row(plane, r)[ghost] += row(plane, r)[n + ghost];
        }
        Real *numbers = reinterpret_cast<Real *>(worker.input.data());
        for (int z = 0; z < n; ++z) {
            for (int lane = 0; lane < width; ++lane) {
                numbers[2 * width * z + lane] = first[lane][z];
                numbers[2 * width * z + width + lane] = second[lane][z];
            }
        }
        worker.lines[2].forward(worker.output.data(), worker.input.data(), 1);
        // Z = A + iB of two real rows: A_k = (Z_k + conj Z_-k)/2, B_k = (Z_k - conj Z_-k)/2i.
        for (int k = 0; k < n_blocks() * width; ++k) {
            const bool kept = k < shape_.n_kept;
            const Complex here = kept ? worker.output[k] : Complex();
            const Complex there = kept ? worker.output[k == 0 ? 0 : n - k] : Complex();
            alignas(64) Real parts[4][width];
            store(parts[0], half * (here.real().v + there.real().v));
            store(parts[1], half * (here.imag().v - there.imag().v));
            store(parts[2], half * (here.imag().v + there.imag().v));
            store(parts[3], half * (there.real().v - here.real().v));
            for (int lane = 0; lane < width; ++lane) {
                set(to, y + 2 * lane, k, parts[0][lane], parts[1][lane]);
                set(to, y + 2 * lane + 1, k, parts[2][lane], parts[3][lane]);
            }
        }
    }

    void set(Complex *plane, int y, int k, Real real, Real imaginary) const {
        if (y >= shape_.n[1]) return;
        Real *to = reinterpret_cast<Real *>(plane + static_cast<std::size_t>(y) * n_blocks() + k / width);
        to[k % width] = real;
        to[width + k % width] = imaginary;
    }

    void rows_backward(Worker &worker, const Complex *from, int y, Real *plane) const {
        const int n = shape_.n[2], last = shape_.n[1] - 1;
        std::fill(worker.input.begin(), worker.input.begin() + n, Complex());
        for (int k = 0; k < shape_.n_kept; ++k) {
            alignas(64) Real parts[4][width];
            for (int lane = 0; lane < width; ++lane) {
                for (int part = 0; part < 2; ++part) {
                    const int r = std::min(y + 2 * lane + part, last);
                    const Real *at =
                        reinterpret_cast<const Real *>(from + static_cast<std::size_t>(r) * n_blocks() + k / width);
                    parts[2 * part][lane] = at[k % width];
                    parts[2 * part + 1][lane] = at[width + k % width];
                }
            }
            const Vector a = load(parts[0]), b = load(parts[1]), c = load(parts[2]), d = load(parts[3]);
            worker.input[k] = Complex(Number(a - d), Number(b + c));
            if (k > 0) worker.input[n - k] = Complex(Number(a + d), Number(c - b));
        }
        worker.lines[2].backward(worker.output.data(), worker.input.data(), 1);
        const Real *numbers = reinterpret_cast<const Real *>(worker.output.data());
        for (int lane = 0; lane < 2 * width && y + lane < shape_.n[1]; ++lane) {
            Real *to = row(plane, y + lane);
            const Real *part = numbers + (lane % 2) * width + lane / 2;
            for (int z = 0; z < n; ++z)
                to[z] = part[2 * width * z];
            for (int ghost = 0; ghost < shape_.n_ghosts; ++ghost)
                to[n + ghost] = to[ghost];
        }
    }

    // to, from: [n_planes][n_blocks]
    void column_forward(Worker &worker, int block, Complex *to) const {
        worker.lines[1].forward(worker.output.data(), worker.plane.data() + block, n_blocks());
        for (int plane = 0; plane < shape_.n_planes(); ++plane)
            to[static_cast<std::size_t>(plane) * n_blocks() + block] = worker.output[shape_.middle_index(plane)];
    }

    void column_backward(Worker &worker, int block, const Complex *from) const {
        for (int plane = 0; plane < shape_.n_planes(); ++plane)
            worker.column[shape_.middle_index(plane)] = from[static_cast<std::size_t>(plane) * n_blocks() + block];
        worker.lines[1].backward(worker.output.data(), worker.column.data(), 1);
        for (int y = 0; y < shape_.n[1]; ++y)
            worker.plane[static_cast<std::size_t>(y) * n_blocks() + block] = worker.output[y];
    }

    // Lines along the first axis of this plane: gathered, so that the long strides are walked once each way.
    void filter_plane(Worker &worker, std::size_t plane, const Real *filter, Real *power) {
        const std::size_t n = shape_.n[0], blocks = n_blocks(), stride = shape_.n_planes() * blocks;
        const std::size_t y = shape_.middle_index(static_cast<int>(plane));
        const Real *weights = filter + y * blocks * n * width;
        std::size_t used = blocks;
        while (used > 0 && is_zero(weights + (used - 1) * n * width, n * width))
            --used;
        for (std::size_t x = 0; x < n; ++x) {
            const Complex *from = spectrum_.data() + x * stride + plane * blocks;
            for (std::size_t block = 0; block < used; ++block)
                worker.input[block * n + x] = from[block];
        }
        for (std::size_t block = 0; block < used; ++block) {
            Complex *line = worker.input.data() + block * n;
            worker.lines[0].forward(worker.output.data(), line, 1);
            for (std::size_t x = 0; x < n; ++x) {
                const Vector weight = load(weights + (block * n + x) * width);
                const Vector re = worker.output[x].real().v, im = worker.output[x].imag().v;
                if (power) store(power + ((y * blocks + block) * n + x) * width, weight * (re * re + im * im));
                worker.output[x] = Complex(Number(weight * re), Number(weight * im));
            }
            worker.lines[0].backward(line, worker.output.data(), 1);
        }
        if (power && used < blocks)
            std::fill(power + (y * blocks + used) * n * width, power + (y + 1) * blocks * n * width, Real(0));
        for (std::size_t x = 0; x < n; ++x) {
            Complex *to = filtered_.data() + x * stride + plane * blocks;
            for (std::size_t block = 0; block < used; ++block)
                to[block] = worker.input[block * n + x];
            for (std::size_t block = used; block < blocks; ++block)
                to[block] = Complex();
        }
    }

    static bool is_zero(const Real *numbers, std::size_t n) {
        for (std::size_t i = 0; i < n; ++i) {
            if (numbers[i] != Real(0)) return false;
        }
        return true;
    }

    std::vector<Worker> workers_;
    std::vector<Complex> spectrum_, filtered_;  // [n[0]][n_planes][n_blocks]
};

template <typename Real>
std::unique_ptr<MeshTransform<Real>> make_transform(const MeshShape &shape) {
    return std::make_unique<LaneTransform<Real>>(shape);
}

template <typename Real>
const ElectrostaticsKernels<Real> &all_kernels() {
    static constexpr ElectrostaticsKernels<Real> table = {QNEP_SIMD_NAME,
                                                          phase_powers<Real>,
                                                          structure_sums<Real>,
                                                          evaluate_fields<true, Real>,
                                                          evaluate_fields<false, Real>,
                                                          spread<Real>,
                                                          gather<Real>,
                                                          make_transform<Real>};
    return table;
}

}  // namespace

const ElectrostaticsKernels<double> &kernels(double) {
    return all_kernels<double>();
}

const ElectrostaticsKernels<float> &kernels(float) {
    return all_kernels<float>();
}

}  // namespace qnep::QNEP_SIMD_NAMESPACE
