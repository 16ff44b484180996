// The kernel of atom_kernel.h, written over simd.h. Included by kernel_<instruction set>.cpp only.
//
// Neighbours within the cutoffs ("slots") are kept sorted by type; a run of one type is a segment. Arrays over slots
// are structures of arrays without padding between segments: a vector at the end of a segment may write beyond it,
// because segments are written in order and every array has slack for one vector.
//
// Radial part: A[t][k] = sum of tau_k over the neighbours of type t, then one contraction with c'[n][k] per type;
// backwards the same, so that a neighbour costs k operations instead of n k.
// Angular part: s[lm][n] = sum_j g_n(j) B_lm(j) and its transpose, as small matrix products in registers.
#pragma once

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "atom_kernel.h"
#include "constants.h"
#include "descriptor_math.h"
#include "simd.h"

namespace qnep::QNEP_SIMD_NAMESPACE {

inline int round_up(int value, int multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

/// Growing scratch memory. Not std::vector: see simd.h.
template <typename T>
class Scratch {
public:
    Scratch() = default;
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    ~Scratch() { std::free(data_); }

    /// At least `size` values, contents undefined after growth but always finite bits.
    T *reserve(std::size_t size) {
        if (size > size_) {
            std::free(data_);
            // Whole blocks of two cache lines: scratch memory of two threads never shares one.
            constexpr std::size_t block = 128;
            const std::size_t bytes = ((size + size / 2) * sizeof(T) + block - 1) / block * block;
            size_ = bytes / sizeof(T);
            data_ = static_cast<T *>(std::aligned_alloc(block, bytes));
            if (!data_) std::abort();
            std::memset(data_, 0, bytes);
        }
        return data_;
    }
    T *get() const { return data_; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

/// Calls body.template operator()<K>() with K = count, so that loops over basis functions unroll.
template <int low, int high, typename Body>
inline void with_constant(int count, const Body &body) {
    if constexpr (low <= high) {
        if (count == low) {
            body.template run<low>();
        } else {
            with_constant<low + 1, high>(count, body);
        }
    }
}

template <typename Real, int L>
class alignas(128) SimdAtomKernel final : public AtomKernel {
    using V = VectorOf<Real>;
    static constexpr int W = Simd<Real>::width;
    static constexpr int n_lm = n_harmonics(L);
#if defined(__AVX512VL__)
    static constexpr bool has_many_registers = true;  // 32
#else
    static constexpr bool has_many_registers = false;
#endif
#if defined(__AVX2__)
    static constexpr bool broadcasts_are_cheap = true;  // from memory, in one instruction
#else
    static constexpr bool broadcasts_are_cheap = false;
#endif

public:
    explicit SimdAtomKernel(const KernelModel<Real> &model): m_(model) {
        n_stride_ = round_up(m_.n_angular, W);
        sums_.reserve(static_cast<std::size_t>(n_lm) * n_stride_ + W);
        sum_derivatives_.reserve(static_cast<std::size_t>(n_lm) * n_stride_ + W);
        const std::size_t n_values = m_.n_descriptors + 4 * W + m_.angular_n_stride;
        descriptors_.reserve(n_values);
        energy_derivatives_.reserve(n_values);
        charge_derivatives_.reserve(n_values);
        derivatives_.reserve(n_values);
        radial_sums_.reserve(static_cast<std::size_t>(m_.n_types) * m_.k_radial);
        hidden_.reserve(3 * static_cast<std::size_t>(m_.neuron_stride));
        segments_.reserve(m_.n_types + 1);
        angular_segments_.reserve(m_.n_types + 1);
    }

    int gather(const PackedPositions &positions, const int *neighbors, const int *owners, const int *segments, int atom,
               int type) override {
        reserve_slots(segments[m_.n_types]);
        atom_ = atom;
        type_ = type;
        const double *cutoffs = m_.list_cutoffs + type * m_.n_types;
        const Coordinate *from = coordinates(positions);
        const Coordinate *center = from + 4 * static_cast<std::size_t>(atom);
        int n = 0;
        for (int t = 0; t < m_.n_types; ++t) {
            segments_.get()[t] = n;
            const Real limit = static_cast<Real>(cutoffs[t] * cutoffs[t] / (unit * unit));
            n +=
                select_close(from, center, neighbors + segments[t], owners + segments[t], segments[t + 1] - segments[t],
                             limit, index_ + n, ux_ + n, uy_ + n, uz_ + n, distance_ + n);
        }
        segments_.get()[m_.n_types] = n;
        n_slots_ = n;
        if (!normalize_slots()) return first_coincident();
        gather_angular();
        return -1;
    }

    void describe() override {
        radial_basis();
        radial_sums();
        angular_basis();
        angular_sums();
        angular_descriptors();
        if (m_.has_temperature) descriptors_.get()[m_.n_descriptors - 1] = static_cast<Real>(m_.temperature);
    }

    void infer(int set, double &energy, double &charge) override {
        const std::size_t network = set * m_.set_stride + type_;
        const Real *weights = m_.weights + network * m_.network_stride;
        const Real *outputs = m_.outputs + network * 2 * m_.neuron_stride;
        hidden_layer(weights, m_.biases + network * m_.neuron_stride);
        V energy_sum{}, charge_sum{};
        Real *hidden = hidden_.get();
        Real *energy_slope = hidden + m_.neuron_stride;
        Real *charge_slope = energy_slope + m_.neuron_stride;
        for (int v = 0; v < m_.n_neurons; v += W) {
            const V h = hyperbolic_tangent<Real>(load(hidden + v));
            const V slope = Real(1) - h * h;
            const V w_energy = load(outputs + v);
            energy_sum += w_energy * h;
            store(energy_slope + v, V(w_energy * slope));
            if (m_.has_charges) {
                const V w_charge = load(outputs + m_.neuron_stride + v);
                charge_sum += w_charge * h;
                store(charge_slope + v, V(w_charge * slope));
            }
        }
        energy = static_cast<double>(sum_lanes<Real>(energy_sum)) + m_.energy_shift[network];
        charge = static_cast<double>(sum_lanes<Real>(charge_sum));
        if (m_.has_charges) {
            network_derivatives<true>(weights);
        } else {
            network_derivatives<false>(weights);
        }
    }

    double repulsion_energy() const override {
        double sum = 0.0;
        for_close_pairs([&](int, const ZblPair &pair, double d) {
            double energy, slope;
            zbl_repulsion(pair, d, energy, slope);
            sum += 0.5 * energy;
        });
        return sum;
    }

    std::size_t state_bytes() const override {
        // Rows are stored in order, each over what the vectors of the one before wrote behind its end.
        const int n_values = n_lm * m_.n_angular + 2 * m_.n_descriptors;
        return sizeof(Real) * (round_up(n_values, W) + W);
    }

    void save_state(void *state) const override {
        Real *to = static_cast<Real *>(state);
        for (int lm = 0; lm < n_lm; ++lm, to += m_.n_angular)
            copy_row(to, sums_.get() + lm * n_stride_, m_.n_angular);
        copy_row(to, energy_derivatives_.get(), m_.n_descriptors);
        copy_row(to + m_.n_descriptors, charge_derivatives_.get(), m_.n_descriptors);
    }

    void restore_state(const void *state) override {
        radial_basis();
        angular_basis();
        const Real *from = static_cast<const Real *>(state);
        for (int lm = 0; lm < n_lm; ++lm, from += m_.n_angular)
            copy_row(sums_.get() + lm * n_stride_, from, m_.n_angular);
        copy_row(energy_derivatives_.get(), from, m_.n_descriptors);
        copy_row(charge_derivatives_.get(), from + m_.n_descriptors, m_.n_descriptors);
    }

    void gradient(double energy_weight, double charge_weight, bool with_repulsion) override {
        combine_derivatives(static_cast<Real>(energy_weight), static_cast<Real>(charge_weight));
        radial_gradient();
        angular_sum_derivatives();
        angular_gradient();
        if (with_repulsion) add_repulsion();
    }

    void add_forces(double *packed_forces) const override {
        double sum[4];
        scatter_subtract(n_slots_, index_, gx_, gy_, gz_, packed_forces, sum);
        double *own = packed_forces + 4 * static_cast<std::size_t>(atom_);
        for (int c = 0; c < 3; ++c)
            own[c] += sum[c];
    }

    void add_virial(double *virial) const override {
        V sums[9] = {};
        for (int s = 0; s < n_slots_; s += W) {
            // Slots beyond the last one hold no gradient: angular_gradient and radial_gradient leave zeros there.
            const V d = load(distance_ + s);
            const V r[3] = {load(ux_ + s) * d, load(uy_ + s) * d, load(uz_ + s) * d};
            const V g[3] = {load(gx_ + s), load(gy_ + s), load(gz_ + s)};
            for (int a = 0; a < 3; ++a) {
                for (int b = 0; b < 3; ++b)
                    sums[3 * a + b] += r[a] * g[b];
            }
        }
        for (int c = 0; c < 9; ++c)
            virial[c] -= static_cast<double>(sum_lanes<Real>(sums[c]));
    }

    void add_atom_virials(double *atom_virials) const override {
        for_slot_products([&](int s, int component, double product) {
            atom_virials[9 * static_cast<std::size_t>(index_[s]) + component] -= product;
        });
    }

    void add_born_charges(double scale, double *born_charges) const override {
        double *own = born_charges + 9 * static_cast<std::size_t>(atom_);
        for_slot_products([&](int s, int component, double product) {
            own[component] += scale * product;
            born_charges[9 * static_cast<std::size_t>(index_[s]) + component] -= scale * product;
        });
    }

    void add_dipole(double *dipole) const override {
        for (int s = 0; s < n_slots_; ++s) {
            const double square = static_cast<double>(distance_[s]) * static_cast<double>(distance_[s]);
            dipole[0] -= square * static_cast<double>(gx_[s]);
            dipole[1] -= square * static_cast<double>(gy_[s]);
            dipole[2] -= square * static_cast<double>(gz_[s]);
        }
    }

    void coulomb(double alpha, const double *charges, double &energy, double &potential) override {
        const double *cutoffs = m_.radial_cutoffs + type_ * m_.n_types;
        const double q = charges[atom_];
        const double slope_factor = 2.0 * alpha / std::sqrt(pi);
        for (int type = 0; type < m_.n_types; ++type) {
            for (int s = segments_.get()[type]; s < segments_.get()[type + 1]; ++s) {
                const double d = distance_[s];
                double slope = 0.0;
                if (d < cutoffs[type]) {
                    const double kernel = std::erfc(alpha * d) / d;
                    const double q_j = charges[index_[s]];
                    potential += coulomb_constant * q_j * kernel;
                    energy += 0.5 * coulomb_constant * q * q_j * kernel;
                    slope = -0.5 * coulomb_constant * q * q_j *
                            (kernel + slope_factor * std::exp(-alpha * alpha * d * d)) / d;
                }
                gx_[s] = static_cast<Real>(slope * static_cast<double>(ux_[s]));
                gy_[s] = static_cast<Real>(slope * static_cast<double>(uy_[s]));
                gz_[s] = static_cast<Real>(slope * static_cast<double>(uz_[s]));
            }
        }
        clear_tail(gx_, gy_, gz_);
    }

    void copy_descriptors(double *values) const override {
        for (int d = 0; d < m_.n_descriptors; ++d)
            values[d] = static_cast<double>(descriptors_.get()[d]);
    }

private:
    static void copy_row(Real *to, const Real *from, int count) {
        for (int i = 0; i < count; i += W)
            store(to + i, load(from + i));
    }

    // Atoms closer than this are at one place, Å.
    static constexpr double coincident = 1e-6;

    // What the positions are given in, and its length, Å.
    static constexpr bool is_single = sizeof(Real) == sizeof(float);
    using Coordinate = std::conditional_t<is_single, std::int32_t, double>;
    static constexpr double unit = is_single ? grid_spacing : 1.0;

    static const Coordinate *coordinates(const PackedPositions &positions) {
        if constexpr (is_single) {
            return positions.grid;
        } else {
            return positions.exact;
        }
    }

    void reserve_slots(int count) {
        const std::size_t size = count + 2 * W + slack_of_selection;
        if (size <= slot_capacity_) return;
        slot_capacity_ = size + size / 2;
        index_ = slot_index_.reserve(slot_capacity_);
        angular_slot_ = angular_index_.reserve(slot_capacity_);
        angular_types_ = angular_type_.reserve(slot_capacity_);
        Real *memory = slot_memory_.reserve(16 * slot_capacity_);
        Real **const arrays[] = {&ux_, &uy_, &uz_,       &distance_,        &gx_,
                                 &gy_, &gz_, &argument_, &cutoff_value_,    &cutoff_slope_,
                                 &ax_, &ay_, &az_,       &angular_distance_};
        for (Real **array : arrays) {
            *array = memory;
            memory += slot_capacity_;
        }
    }

    int first_coincident() const {
        for (int s = 0; s < n_slots_; ++s) {
            if (static_cast<double>(distance_[s]) < coincident) return index_[s];
        }
        return atom_;
    }

    // Vectors to unit vectors, squares to distances. The slots behind the last one get a distance beyond every
    // cutoff, so that all functions of them vanish. Returns whether all distances are larger than zero.
    bool normalize_slots() {
        for (int pad = n_slots_; pad < n_slots_ + W; ++pad) {
            ux_[pad] = uy_[pad] = Real(0);
            uz_[pad] = static_cast<Real>(far / unit);
            distance_[pad] = static_cast<Real>(far * far / (unit * unit));
        }
        V shortest = broadcast<Real>(static_cast<Real>(far));
        for (int s = 0; s < n_slots_; s += W) {
            const V root = square_root(load(distance_ + s));
            const V inverse = Real(1) / root;
            const V d = root * static_cast<Real>(unit);
            shortest = d < shortest ? d : shortest;
            store(distance_ + s, d);
            store(ux_ + s, V(load(ux_ + s) * inverse));
            store(uy_ + s, V(load(uy_ + s) * inverse));
            store(uz_ + s, V(load(uz_ + s) * inverse));
        }
        for (int lane = 0; lane < W; ++lane) {
            if (static_cast<double>(shortest[lane]) < coincident) return false;
        }
        return true;
    }

    void gather_angular() {
        const double *cutoffs = m_.angular_cutoffs + type_ * m_.n_types;
        const int *segments = segments_.get();
        int *angular_segments = angular_segments_.get();
        const Real *from[] = {ux_, uy_, uz_, distance_};
        Real *to[] = {ax_, ay_, az_, angular_distance_};
        int n = 0;
        for (int type = 0; type < m_.n_types; ++type) {
            angular_segments[type] = n;
            n = select_columns(distance_, segments[type], segments[type + 1], static_cast<Real>(cutoffs[type]), 4, from,
                               to, angular_slot_, n);
        }
        angular_segments[m_.n_types] = n;
        n_angular_slots_ = n;
        for (int pad = n; pad < n + W; ++pad) {
            ax_[pad] = ay_[pad] = Real(0);
            az_[pad] = Real(1);
            angular_distance_[pad] = Real(far);
        }
        stride_ = round_up(n, W) + W;                          // room for a vector behind the last neighbour
        const std::size_t rows = n_lm + 2 * m_.n_angular + W;  // W more may be read
        values_by_neighbor_ = angular_memory_.reserve((rows + W) * stride_ + 2 * W);
        harmonics_ = values_by_neighbor_ + static_cast<std::size_t>(W) * stride_;
        radial_values_ = harmonics_ + static_cast<std::size_t>(n_lm) * stride_;
        radial_slopes_ = radial_values_ + static_cast<std::size_t>(m_.n_angular) * stride_;
    }

    // ---- radial part ----

    void radial_basis() {
        for (int type = 0; type < m_.n_types; ++type) {
            const int stop = segments_.get()[type + 1];
            const Real inverse = static_cast<Real>(1.0 / m_.radial_cutoffs[type_ * m_.n_types + type]);
            for (int s = segments_.get()[type]; s < stop; s += W) {
                V u = load(distance_ + s) * inverse;
                u = u > Real(1) ? broadcast<Real>(Real(1)) : u;
                V value, slope;
                cutoff_function<Real>(u, value, slope);
                store(argument_ + s, V(u - Real(1)));
                store(cutoff_value_ + s, value);
                store(cutoff_slope_ + s, V(slope * inverse));
            }
        }
    }

    struct RadialSums {
        const SimdAtomKernel &kernel;
        int begin, stop;
        Real *sums;  // [k]

        template <int K>
        void run() const {
            V sum[K] = {};
            const V lanes = lane_numbers<Real>();
            for (int s = begin; s < stop; s += W) {
                const V v = load(kernel.argument_ + s);
                const V twice_x = Real(4) * v * v - Real(2);
                V value = load(kernel.cutoff_value_ + s);
                value = lanes < static_cast<Real>(stop - s) ? value : V{};
                V previous = value;
                V current = Real(0.5) * twice_x * value;
                sum[0] += previous;
                if constexpr (K > 1) sum[1] += current;
                for (int k = 2; k < K; ++k) {
                    const V next = twice_x * current - previous;
                    sum[k] += next;
                    previous = current;
                    current = next;
                }
            }
            sum_each<K, Real>(sum, sums);
        }
    };

    void radial_sums() {
        Real *sums = radial_sums_.get();
        const int n_rows = m_.n_types * m_.k_radial;
        for (int type = 0; type < m_.n_types; ++type, sums += m_.k_radial) {
            const int begin = segments_.get()[type], stop = segments_.get()[type + 1];
            if (begin == stop) {
                std::memset(sums, 0, m_.k_radial * sizeof(Real));
            } else {
                with_constant<1, ModelLimits::basis_size + 1>(m_.k_radial, RadialSums{*this, begin, stop, sums});
            }
        }
        sums = radial_sums_.get();
        const Real *c = m_.radial_kn + static_cast<std::size_t>(type_) * n_rows * m_.radial_n_stride;
        for (int n = 0; n < m_.n_radial; n += W, c += W)
            store(descriptors_.get() + n, weighted_rows(sums, n_rows, c, m_.radial_n_stride));
    }

    // Sum of weights[row] * rows[row * stride], one vector of it; several sums, so that one need not wait for another.
    static V weighted_rows(const Real *weights, int n_rows, const Real *rows, int stride) {
        V sum[4] = {};
        int row = 0;
        for (; row + 4 <= n_rows; row += 4) {
            for (int i = 0; i < 4; ++i)
                sum[i] += weights[row + i] * load(rows + (row + i) * stride);
        }
        for (; row < n_rows; ++row)
            sum[0] += weights[row] * load(rows + row * stride);
        return (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }

    struct RadialSlopes {
        SimdAtomKernel &kernel;
        int begin, stop;
        Real inverse_cutoff;
        const Real *series;        // [k]: p(x) = sum series_k T_k(x)
        const Real *slope_series;  // [k]: p'(x)

        template <int K>
        void run() const {
            for (int s = begin; s < stop; s += W) {
                const V v = load(kernel.argument_ + s);
                const V x = Real(2) * v * v - Real(1);
                const V twice_x = x + x;
                V previous = broadcast<Real>(Real(1));
                V current = x;
                V value = V{} + series[0], slope = V{} + slope_series[0];
                if constexpr (K > 1) {
                    value += series[1] * x;
                    slope += slope_series[1] * x;
                }
                for (int k = 2; k < K; ++k) {
                    const V next = twice_x * current - previous;
                    value += series[k] * next;
                    slope += slope_series[k] * next;
                    previous = current;
                    current = next;
                }
                const V derivative = load(kernel.cutoff_slope_ + s) * value +
                                     load(kernel.cutoff_value_ + s) * slope * v * (Real(4) * inverse_cutoff);
                store(kernel.gx_ + s, V(derivative * load(kernel.ux_ + s)));
                store(kernel.gy_ + s, V(derivative * load(kernel.uy_ + s)));
                store(kernel.gz_ + s, V(derivative * load(kernel.uz_ + s)));
            }
        }
    };

    void radial_gradient() {
        const Real *p = derivatives_.get();
        for (int type = 0; type < m_.n_types; ++type) {
            const int begin = segments_.get()[type], stop = segments_.get()[type + 1];
            if (begin == stop) continue;
            const std::size_t pair = static_cast<std::size_t>(type_) * m_.n_types + type;
            const std::size_t at = pair * m_.n_radial * m_.radial_k_stride;
            constexpr int size = (ModelLimits::basis_size + W) / W * W;
            Real series[size], slopes[size];
            for (int k = 0; k < m_.k_radial; k += W) {
                store(series + k, weighted_rows(p, m_.n_radial, m_.radial_nk + at + k, m_.radial_k_stride));
                store(slopes + k, weighted_rows(p, m_.n_radial, m_.radial_slope_nk + at + k, m_.radial_k_stride));
            }
            const Real inverse = static_cast<Real>(1.0 / m_.radial_cutoffs[pair]);
            with_constant<1, ModelLimits::basis_size + 1>(m_.k_radial,
                                                          RadialSlopes{*this, begin, stop, inverse, series, slopes});
        }
        clear_tail(gx_, gy_, gz_);
    }

    // ---- angular part ----

    void angular_basis() {
        if (mixes_types()) {
            mixed_angular_radial_functions();
        } else {
            for (int type = 0; type < m_.n_types; ++type) {
                const int begin = angular_segments_.get()[type], stop = angular_segments_.get()[type + 1];
                const std::size_t pair = static_cast<std::size_t>(type_) * m_.n_types + type;
                const V inverse = broadcast<Real>(static_cast<Real>(1.0 / m_.angular_cutoffs[pair]));
                const Real *c = m_.angular_kn + pair * m_.k_angular * m_.angular_n_stride;
                for (int s = begin; s < stop; s += W)
                    angular_radial_functions(s, inverse, [&](int k, int n) { return c[k * m_.angular_n_stride + n]; });
            }
        }
        for (int n = 0; n < m_.n_angular; ++n) {
            store(radial_values_ + static_cast<std::size_t>(n) * stride_ + n_angular_slots_, V{});
            store(radial_slopes_ + static_cast<std::size_t>(n) * stride_ + n_angular_slots_, V{});
        }
        for (int s = 0; s < n_angular_slots_; s += W) {
            harmonics<L, Real>(load(ax_ + s), load(ay_ + s), load(az_ + s),
                               [&](int lm, V value) { store(harmonics_ + lm * stride_ + s, value); });
        }
    }

    // Whether vectors of neighbours of any type, each lane with coefficients of its own, are fewer than those of one
    // type: few neighbours of many types leave most lanes of the latter empty.
    bool mixes_types() const {
        if constexpr (!Picker<Real>::exists) return false;
        if (!m_.angular_kn_by_type || m_.n_types > most_types_by_lane) return false;
        int n_vectors = 0;
        for (int type = 0; type < m_.n_types; ++type)
            n_vectors += round_up(angular_segments_.get()[type + 1] - angular_segments_.get()[type], W) / W;
        return n_vectors > round_up(n_angular_slots_, W) / W;
    }

    void mixed_angular_radial_functions() {
        if constexpr (Picker<Real>::exists) {
            int *types = angular_types_;
            for (int type = 0; type < m_.n_types; ++type) {
                for (int s = angular_segments_.get()[type]; s < angular_segments_.get()[type + 1]; s += W)
                    Picker<Real>::fill(types + s, type);
            }
            constexpr int columns = most_types_by_lane;
            const Real *c =
                m_.angular_kn_by_type + static_cast<std::size_t>(type_) * m_.k_angular * m_.n_angular * columns;
            for (int s = 0; s < n_angular_slots_; s += W) {
                const Picker<Real> pick(types + s);
                const V inverse = pick(m_.inverse_angular_cutoffs + type_ * columns);
                angular_radial_functions(s, inverse,
                                         [&](int k, int n) { return pick(c + (k * m_.n_angular + n) * columns); });
            }
        }
    }

    // g_n and dg_n/dd of one vector of neighbours; coefficient(k, n): a number or one for each lane.
    template <typename Coefficient>
    inline __attribute__((always_inline)) void angular_radial_functions(int s, V inverse,
                                                                        const Coefficient &coefficient) {
        V u = load(angular_distance_ + s) * inverse;
        u = u > Real(1) ? broadcast<Real>(Real(1)) : u;
        V x, x_slope;
        chebyshev_argument<Real>(u, x, x_slope);
        V values[ModelLimits::basis_size + 1], slopes[ModelLimits::basis_size + 1];
        cutoff_function<Real>(u, values[0], slopes[0]);
        slopes[0] *= inverse;
        x_slope *= inverse;
        values[1] = x * values[0];
        slopes[1] = x * slopes[0] + x_slope * values[0];
        const V twice_x = x + x, twice_slope = x_slope + x_slope;
        for (int k = 2; k < m_.k_angular; ++k) {
            values[k] = twice_x * values[k - 1] - values[k - 2];
            slopes[k] = twice_x * slopes[k - 1] + (twice_slope * values[k - 1] - slopes[k - 2]);
        }
        int n = 0;
        for (; n + 4 <= m_.n_angular; n += 4)
            contract_angular<4>(values, slopes, coefficient, n, s);
        if (n + 2 <= m_.n_angular) {
            contract_angular<2>(values, slopes, coefficient, n, s);
            n += 2;
        }
        if (n < m_.n_angular) contract_angular<1>(values, slopes, coefficient, n, s);
    }

    template <int count, typename Coefficient>
    inline __attribute__((always_inline)) void contract_angular(const V *values, const V *slopes,
                                                                const Coefficient &coefficient, int n, int s) {
        V value[count] = {}, slope[count] = {};
        for (int k = 0; k < m_.k_angular; ++k) {
            for (int i = 0; i < count; ++i) {
                const auto c = coefficient(k, n + i);
                value[i] += c * values[k];
                slope[i] += c * slopes[k];
            }
        }
        for (int i = 0; i < count; ++i) {
            store(radial_values_ + static_cast<std::size_t>(n + i) * stride_ + s, value[i]);
            store(radial_slopes_ + static_cast<std::size_t>(n + i) * stride_ + s, slope[i]);
        }
    }

    // s[lm][n] by vectors over n where these are filled, else by vectors over neighbours.
    void angular_sums() {
        int n = 0;
        for (; broadcasts_are_cheap && m_.n_angular - n > W / 4; n += W) {
            transpose_radial_values(n);
            constexpr int block = has_many_registers ? 24 : 12;
            int lm = 0;
            for (; lm + block <= n_lm; lm += block)
                sums_over_neighbors<block>(n, lm);
            constexpr int rest = n_lm % block;
            if constexpr (rest > 0) sums_over_neighbors<rest>(n, lm);
        }
        for (; n + 4 <= m_.n_angular; n += 4)
            sums_of_all_harmonics<4, 3>(n);
        if (n + 2 <= m_.n_angular) {
            sums_of_all_harmonics<2, 6>(n);
            n += 2;
        }
        if (n < m_.n_angular) sums_of_all_harmonics<1, 8>(n);
    }

    // g_n of W successive n, neighbour by neighbour. Rows behind the last n are read, but their sums by nobody.
    void transpose_radial_values(int n) {
        const Real *g = radial_values_ + static_cast<std::size_t>(n) * stride_;
        for (int s = 0; s < n_angular_slots_; s += W) {
            V rows[W];
            for (int i = 0; i < W; ++i)
                rows[i] = load(g + i * stride_ + s);
            transpose(rows);
            for (int i = 0; i < W; ++i)
                store(values_by_neighbor_ + (s + i) * W, rows[i]);
        }
    }

    // A block of sums for W successive n, its accumulators in registers.
    template <int lm_count>
    void sums_over_neighbors(int n, int lm) {
        V sum[lm_count] = {};
        const Real *harmonic = harmonics_ + static_cast<std::size_t>(lm) * stride_;
        const Real *values = values_by_neighbor_;
        for (int s = 0; s < n_angular_slots_; ++s, ++harmonic, values += W) {
            const V value = load(values);
            for (int l = 0; l < lm_count; ++l)
                sum[l] += harmonic[l * stride_] * value;
        }
        Real *to = sums_.get() + static_cast<std::size_t>(lm) * n_stride_ + n;
        for (int l = 0; l < lm_count; ++l)
            store(to + l * n_stride_, sum[l]);
    }

    template <int n_count, int lm_count>
    void sums_of_all_harmonics(int n) {
        int lm = 0;
        for (; lm + lm_count <= n_lm; lm += lm_count)
            sums_block<n_count, lm_count>(n, lm);
        constexpr int rest = n_lm % lm_count;
        if constexpr (rest > 0) sums_block<n_count, rest>(n, lm);
    }

    // s[lm][n] of a block, its accumulators in registers.
    template <int n_count, int lm_count>
    void sums_block(int n, int lm) {
        constexpr int size = n_count * lm_count;
        V sum[size] = {};
        const Real *g = radial_values_ + static_cast<std::size_t>(n) * stride_;
        const Real *b = harmonics_ + static_cast<std::size_t>(lm) * stride_;
        for (int s = 0; s < n_angular_slots_; s += W) {
            V harmonic[lm_count];
            for (int l = 0; l < lm_count; ++l)
                harmonic[l] = load(b + l * stride_ + s);
            for (int i = 0; i < n_count; ++i) {
                const V value = load(g + i * stride_ + s);
                for (int l = 0; l < lm_count; ++l)
                    sum[l * n_count + i] += value * harmonic[l];
            }
        }
        Real *to = sums_.get() + static_cast<std::size_t>(lm) * n_stride_ + n;
        if constexpr (n_count == 4) {
            for (int l = 0; l < lm_count; ++l)
                sum_each<4, Real>(sum + 4 * l, to + l * n_stride_);
            return;
        }
        Real values[size];
        sum_each<size, Real>(sum, values);
        for (int l = 0; l < lm_count; ++l) {
            for (int i = 0; i < n_count; ++i)
                to[l * n_stride_ + i] = values[l * n_count + i];
        }
    }

    // Calls body(first descriptor of the block, monomials) for the switched-on invariants of three sums.
    template <typename Body, typename Body1111>
    void for_invariants(const Body &body, const Body1111 &body_1111) const {
        int at = m_.n_radial + L * m_.n_angular;
        const auto next = [&] {
            const int here = at;
            at += m_.n_angular;
            return here;
        };
        if constexpr (L >= 2) {
            if (m_.invariants[static_cast<int>(Invariant::q222)]) body(next(), monomials_222);
        }
        if (m_.invariants[static_cast<int>(Invariant::q1111)]) body_1111(next());
        if constexpr (L >= 2) {
            if (m_.invariants[static_cast<int>(Invariant::q112)]) body(next(), monomials_112);
        }
        if constexpr (L >= 3) {
            if (m_.invariants[static_cast<int>(Invariant::q123)]) body(next(), monomials_123);
            if (m_.invariants[static_cast<int>(Invariant::q233)]) body(next(), monomials_233);
        }
        if constexpr (L >= 4) {
            if (m_.invariants[static_cast<int>(Invariant::q134)]) body(next(), monomials_134);
        }
    }

    static constexpr Real weight(int l, int m) {
        return static_cast<Real>((m == 0 ? 1.0 : 2.0) * harmonic_weight[l][m]);
    }

    V sum_of_squares(int l, int n) const {
        const Real *s = sums_.get() + n;
        const V zonal = load(s + harmonic_index(l, 0, false) * n_stride_);
        V total = weight(l, 0) * zonal * zonal;
        for (int m = 1; m <= l; ++m) {
            const V re = load(s + harmonic_index(l, m, false) * n_stride_);
            const V im = load(s + harmonic_index(l, m, true) * n_stride_);
            total += weight(l, m) * (re * re + im * im);
        }
        return total;
    }

    // Blocks are stored in order, so that what a vector writes beyond its block is overwritten by the next.
    void angular_descriptors() {
        Real *q = descriptors_.get();
        const auto sums_at = [this](int n) {
            return [this, n](int lm) { return load(sums_.get() + lm * n_stride_ + n); };
        };
        for (int l = 1; l <= L; ++l) {
            Real *block = q + m_.n_radial + (l - 1) * m_.n_angular;
            for (int n = 0; n < m_.n_angular; n += W)
                store(block + n, sum_of_squares(l, n));
        }
        for_invariants(
            [&](int at, const auto &monomials) {
                for (int n = 0; n < m_.n_angular; n += W) {
                    store(q + at + n, invariant<Real, V>(monomials, sums_at(n)));
                }
            },
            [&](int at) {
                for (int n = 0; n < m_.n_angular; n += W) {
                    const V square = squared_first_sums(n);
                    store(q + at + n, V(static_cast<Real>(coefficient_1111) * square * square));
                }
            });
    }

    V squared_first_sums(int n) const {
        V total{};
        for (int lm = 0; lm < 3; ++lm) {
            const V s = load(sums_.get() + lm * n_stride_ + n);
            total += s * s;
        }
        return total;
    }

    // dU/ds from the derivatives with respect to the descriptors.
    void angular_sum_derivatives() {
        const Real *p = derivatives_.get();
        Real *to = sum_derivatives_.get();
        for (int n = 0; n < m_.n_angular; n += W) {
            const auto sum = [&](int lm) { return load(sums_.get() + lm * n_stride_ + n); };
            for (int l = 1; l <= L; ++l) {
                const V twice = Real(2) * load(p + m_.n_radial + (l - 1) * m_.n_angular + n);
                for (int m = 0; m <= l; ++m) {
                    const V scale = weight(l, m) * twice;
                    const int re = harmonic_index(l, m, false);
                    store(to + re * n_stride_ + n, V(scale * sum(re)));
                    if (m > 0) store(to + (re + 1) * n_stride_ + n, V(scale * sum(re + 1)));
                }
            }
            const auto add = [&](int lm, V value) {
                store(to + lm * n_stride_ + n, V(load(to + lm * n_stride_ + n) + value));
            };
            for_invariants(
                [&](int at, const auto &monomials) {
                    invariant_derivative<Real, V>(monomials, sum, load(p + at + n), add);
                },
                [&](int at) {
                    const V scale =
                        static_cast<Real>(4.0 * coefficient_1111) * load(p + at + n) * squared_first_sums(n);
                    for (int lm = 0; lm < 3; ++lm)
                        add(lm, scale * sum(lm));
                });
        }
    }

    void angular_gradient() {
        constexpr int block = 4;
        for (int s = 0; s < n_angular_slots_; s += W) {
            V h[n_lm];  // sum_n g_n dU/ds_{n,lm}
            V radial{};
            int lm = 0;
            for (; lm + block <= n_lm; lm += block)
                gradient_block<block>(lm, s, h, radial);
            constexpr int rest = n_lm % block;
            if constexpr (rest > 0) gradient_block<rest>(lm, s, h, radial);
            const V x = load(ax_ + s), y = load(ay_ + s), z = load(az_ + s);
            V gx, gy, gz;
            harmonics_gradient<L, Real>(
                x, y, z, [&](int i) { return h[i]; }, gx, gy, gz);
            const V inverse = Real(1) / load(angular_distance_ + s);
            // The projection (1 - u u^T)/d turns the free gradient into that on the sphere.
            const V along = radial - (gx * x + gy * y + gz * z) * inverse;
            add_to_slots(s, V(gx * inverse + along * x), V(gy * inverse + along * y), V(gz * inverse + along * z));
        }
    }

    template <int count>
    inline __attribute__((always_inline)) void gradient_block(int lm, int s, V *h, V &radial) const {
        V value[count] = {}, slope[count] = {};
        const Real *d = sum_derivatives_.get() + lm * n_stride_;
        const Real *g = radial_values_ + s, *g_slope = radial_slopes_ + s;
        for (int n = 0; n < m_.n_angular; ++n, g += stride_, g_slope += stride_) {
            const V g_n = load(g), slope_n = load(g_slope);
            for (int i = 0; i < count; ++i) {
                const Real derivative = d[i * n_stride_ + n];
                value[i] += derivative * g_n;
                slope[i] += derivative * slope_n;
            }
        }
        for (int i = 0; i < count; ++i) {
            h[lm + i] = value[i];
            radial += slope[i] * load(harmonics_ + (lm + i) * stride_ + s);
        }
    }

    void add_to_slots(int s, V gx, V gy, V gz) {
        const int count = n_angular_slots_ - s < W ? n_angular_slots_ - s : W;
        for (int lane = 0; lane < count; ++lane) {
            const int slot = angular_slot_[s + lane];
            gx_[slot] += gx[lane];
            gy_[slot] += gy[lane];
            gz_[slot] += gz[lane];
        }
    }

    // ---- network ----

    struct HiddenBlock {
        const SimdAtomKernel &kernel;
        const Real *weights, *biases;
        Real *hidden;
        int first;

        template <int count>
        void run() const {
            V sum[count];
            for (int i = 0; i < count; ++i)
                sum[i] = -load(biases + first + i * W);
            const Real *q = kernel.descriptors_.get();
            const Real *row = weights + first;
            for (int d = 0; d < kernel.m_.n_descriptors; ++d, row += kernel.m_.neuron_stride) {
                for (int i = 0; i < count; ++i)
                    sum[i] += q[d] * load(row + i * W);
            }
            for (int i = 0; i < count; ++i)
                store(hidden + first + i * W, sum[i]);
        }
    };

    void hidden_layer(const Real *weights, const Real *biases) {
        constexpr int most = 8;  // vectors per block
        const int n_vectors = round_up(m_.n_neurons, W) / W;
        const int n_blocks = (n_vectors + most - 1) / most;
        const int size = (n_vectors + n_blocks - 1) / n_blocks;
        for (int first = 0; first < n_vectors; first += size) {
            const int count = n_vectors - first < size ? n_vectors - first : size;
            with_constant<1, most>(count, HiddenBlock{*this, weights, biases, hidden_.get(), first * W});
        }
    }

    template <bool has_charges>
    void network_derivatives(const Real *weights) {
        const Real *energy_slope = hidden_.get() + m_.neuron_stride;
        const Real *charge_slope = energy_slope + m_.neuron_stride;
        for (int d = 0; d < m_.n_descriptors; d += 4) {
            V energy[4] = {}, charge[4] = {};
            const Real *rows = weights + static_cast<std::size_t>(d) * m_.neuron_stride;
            for (int v = 0; v < m_.n_neurons; v += W) {
                const V energy_v = load(energy_slope + v);
                V charge_v{};
                if (has_charges) charge_v = load(charge_slope + v);
                for (int i = 0; i < 4; ++i) {
                    const V w = load(rows + i * m_.neuron_stride + v);
                    energy[i] += w * energy_v;
                    if (has_charges) charge[i] += w * charge_v;
                }
            }
            sum_four(energy[0], energy[1], energy[2], energy[3], energy_derivatives_.get() + d);
            if (has_charges) sum_four(charge[0], charge[1], charge[2], charge[3], charge_derivatives_.get() + d);
        }
    }

    void combine_derivatives(Real energy_weight, Real charge_weight) {
        for (int d = 0; d < m_.n_descriptors; d += W) {
            V value = energy_weight * load(energy_derivatives_.get() + d);
            if (m_.has_charges) value += charge_weight * load(charge_derivatives_.get() + d);
            store(derivatives_.get() + d, value);
        }
    }

    // ---- repulsion ----

    // Calls body(slot, parameters, distance) for the pairs that ZBL reaches; it acts within the angular cutoff.
    template <typename Body>
    void for_close_pairs(const Body &body) const {
        if (!m_.zbl) return;
        const ZblPair *pairs = m_.zbl + type_ * m_.n_types;
        const double *cutoffs = m_.angular_cutoffs + type_ * m_.n_types;
        for (int type = 0; type < m_.n_types; ++type) {
            const double reach = pairs[type].outer < cutoffs[type] ? pairs[type].outer : cutoffs[type];
            for (int s = angular_segments_.get()[type]; s < angular_segments_.get()[type + 1]; ++s) {
                if (angular_distance_[s] < reach) body(angular_slot_[s], pairs[type], angular_distance_[s]);
            }
        }
    }

    void add_repulsion() {
        for_close_pairs([this](int slot, const ZblPair &pair, double d) {
            double energy, slope;
            zbl_repulsion(pair, d, energy, slope);
            const Real half = static_cast<Real>(0.5 * slope);
            gx_[slot] += half * ux_[slot];
            gy_[slot] += half * uy_[slot];
            gz_[slot] += half * uz_[slot];
        });
    }

    // ---- outputs ----

    void clear_tail(Real *x, Real *y, Real *z) const {
        store(x + n_slots_, V{});
        store(y + n_slots_, V{});
        store(z + n_slots_, V{});
    }

    // Calls body(slot, component, r^a G^b) for all slots and the nine components, row-major.
    template <typename Body>
    void for_slot_products(const Body &body) const {
        for (int s = 0; s < n_slots_; ++s) {
            const double d = distance_[s];
            const double r[3] = {d * ux_[s], d * uy_[s], d * uz_[s]};
            const double g[3] = {gx_[s], gy_[s], gz_[s]};
            for (int a = 0; a < 3; ++a) {
                for (int b = 0; b < 3; ++b)
                    body(s, 3 * a + b, r[a] * g[b]);
            }
        }
    }

    static constexpr double far = 1000.0;  // Å, beyond every cutoff

    const KernelModel<Real> m_;
    int atom_ = 0, type_ = 0;
    int n_slots_ = 0, n_angular_slots_ = 0;
    int stride_ = 0;    // of arrays over angular neighbours
    int n_stride_ = 0;  // of angular sums, over n

    std::size_t slot_capacity_ = 0;
    Scratch<int> slot_index_, angular_index_, angular_type_, segments_, angular_segments_;
    Scratch<Real> slot_memory_, angular_memory_;
    int *index_ = nullptr;  // the atom on which a neighbour's share is booked
    int *angular_slot_ = nullptr, *angular_types_ = nullptr;
    Real *ux_ = nullptr, *uy_ = nullptr, *uz_ = nullptr, *distance_ = nullptr;
    Real *gx_ = nullptr, *gy_ = nullptr, *gz_ = nullptr;
    Real *argument_ = nullptr, *cutoff_value_ = nullptr, *cutoff_slope_ = nullptr;
    Real *ax_ = nullptr, *ay_ = nullptr, *az_ = nullptr, *angular_distance_ = nullptr;
    Real *harmonics_ = nullptr, *radial_values_ = nullptr, *radial_slopes_ = nullptr;  // [lm or n][slot]
    Real *values_by_neighbor_ = nullptr;                                               // [slot][W of n]

    Scratch<Real> radial_sums_;             // [t][k]
    Scratch<Real> sums_, sum_derivatives_;  // [lm][n]
    Scratch<Real> descriptors_, energy_derivatives_, charge_derivatives_, derivatives_, hidden_;
};

template <typename Real, int L = ModelLimits::l_max>
inline AtomKernel *make_kernel_for(const KernelModel<Real> &model) {
    if constexpr (L == 0) {
        return nullptr;
    } else {
        return model.l_max == L ? new SimdAtomKernel<Real, L>(model) : make_kernel_for<Real, L - 1>(model);
    }
}

AtomKernel *make_atom_kernel(const KernelModel<double> &model) {
    return make_kernel_for<double>(model);
}

AtomKernel *make_atom_kernel(const KernelModel<float> &model) {
    return make_kernel_for<float>(model);
}

}  // namespace qnep::QNEP_SIMD_NAMESPACE
