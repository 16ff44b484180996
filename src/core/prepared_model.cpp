#include "prepared_model.h"

#include <algorithm>

namespace qnep {

namespace {

// Strides are multiples of this: the widest vector holds 16 single-precision numbers.
constexpr int stride_multiple = 16;

int padded(int value) {
    return (value + stride_multiple - 1) / stride_multiple * stride_multiple;
}

// c'[k] of tau_k = T_k f_c from c[k] of f_k = (T_k + 1)/2 f_c; f_0 = f_c.
template <typename Get>
double chebyshev_coefficient(int k, int n_basis, const Get &coefficient) {
    if (k > 0) return 0.5 * coefficient(k);
    double sum = coefficient(0);
    for (int other = 1; other < n_basis; ++other)
        sum += 0.5 * coefficient(other);
    return sum;
}

// Coefficients of the derivative of a Chebyshev series: d_{k-1} = d_{k+1} + 2 k c_k, the first one halved.
std::vector<double> chebyshev_derivative(const std::vector<double> &series) {
    const int n = static_cast<int>(series.size());
    std::vector<double> slopes(n + 2, 0.0);
    for (int k = n - 1; k >= 1; --k)
        slopes[k - 1] = slopes[k + 1] + 2.0 * k * series[k];
    slopes[0] *= 0.5;
    return slopes;
}

}  // namespace

template <typename Real>
PreparedModel<Real>::PreparedModel(const Model &model, double temperature) {
    set_sizes(model, temperature);
    set_coefficients(model);
    set_networks(model);
    set_cutoffs(model);
    zbl_ = zbl_pairs(model);
    view_.zbl = zbl_.empty() ? nullptr : zbl_.data();
}

template <typename Real>
void PreparedModel<Real>::set_sizes(const Model &model, double temperature) {
    view_.n_types = model.n_types();
    view_.n_radial = model.n_radial();
    view_.n_angular = model.n_angular();
    view_.k_radial = model.k_radial();
    view_.k_angular = model.k_angular();
    view_.n_descriptors = model.n_descriptors();
    view_.n_neurons = model.n_neurons;
    view_.l_max = model.l_max;
    std::copy(model.invariants.begin(), model.invariants.end(), view_.invariants);
    view_.has_charges = model.has_charges();
    view_.radial_n_stride = padded(model.n_radial());
    view_.radial_k_stride = padded(model.k_radial());
    view_.angular_n_stride = padded(model.n_angular());
    view_.neuron_stride = padded(model.n_neurons);
    view_.network_stride = static_cast<std::size_t>(padded(model.n_descriptors())) * view_.neuron_stride;
    view_.set_stride = model.n_types();
    view_.has_temperature = model.has_temperature;
    view_.temperature = temperature;
}

template <typename Real>
void PreparedModel<Real>::set_coefficients(const Model &model) {
    const std::size_t n_types = model.n_types();
    const std::size_t n_pairs = n_types * n_types;
    const int n_r = model.n_radial(), k_r = model.k_radial(), n_a = model.n_angular(), k_a = model.k_angular();
    radial_kn_.assign(n_pairs * k_r * view_.radial_n_stride, Real(0));
    radial_nk_.assign(n_pairs * n_r * view_.radial_k_stride, Real(0));
    radial_slope_nk_.assign(radial_nk_.size(), Real(0));
    angular_kn_.assign(n_pairs * k_a * view_.angular_n_stride, Real(0));
    const double *radial = model.parameters.data() + model.radial_offset();
    const double *angular = model.parameters.data() + model.angular_offset();
    for (std::size_t pair = 0; pair < n_pairs; ++pair) {
        for (int n = 0; n < n_r; ++n) {
            const auto get = [&](int k) { return radial[(static_cast<std::size_t>(n) * k_r + k) * n_pairs + pair]; };
            std::vector<double> series(k_r);
            for (int k = 0; k < k_r; ++k)
                series[k] = chebyshev_coefficient(k, k_r, get);
            const std::vector<double> slopes = chebyshev_derivative(series);
            for (int k = 0; k < k_r; ++k) {
                const std::size_t nk = (pair * n_r + n) * view_.radial_k_stride + k;
                radial_kn_[(pair * k_r + k) * view_.radial_n_stride + n] = static_cast<Real>(series[k]);
                radial_nk_[nk] = static_cast<Real>(series[k]);
                radial_slope_nk_[nk] = static_cast<Real>(slopes[k]);
            }
        }
        for (int n = 0; n < n_a; ++n) {
            const auto get = [&](int k) { return angular[(static_cast<std::size_t>(n) * k_a + k) * n_pairs + pair]; };
            for (int k = 0; k < k_a; ++k) {
                angular_kn_[(pair * k_a + k) * view_.angular_n_stride + n] =
                    static_cast<Real>(chebyshev_coefficient(k, k_a, get));
            }
        }
    }
    set_coefficients_by_type(model.n_types());
    view_.radial_kn = radial_kn_.data();
    view_.radial_nk = radial_nk_.data();
    view_.radial_slope_nk = radial_slope_nk_.data();
    view_.angular_kn = angular_kn_.data();
}

// Single-precision vectors are as long as these rows.
template <typename Real>
void PreparedModel<Real>::set_coefficients_by_type(int n_types) {
    constexpr int columns = most_types_by_lane;
    if (sizeof(Real) != sizeof(float) || n_types < 2 || n_types > columns) return;
    const int n_a = view_.n_angular, k_a = view_.k_angular;
    angular_kn_by_type_.assign(static_cast<std::size_t>(n_types) * k_a * n_a * columns, Real(0));
    Real *to = angular_kn_by_type_.data();
    for (int i = 0; i < n_types; ++i) {
        for (int k = 0; k < k_a; ++k) {
            for (int n = 0; n < n_a; ++n, to += columns) {
                for (int j = 0; j < n_types; ++j) {
                    const std::size_t row = static_cast<std::size_t>(i * n_types + j) * k_a + k;
                    to[j] = angular_kn_[row * view_.angular_n_stride + n];
                }
            }
        }
    }
    view_.angular_kn_by_type = angular_kn_by_type_.data();
}

template <typename Real>
void PreparedModel<Real>::set_networks(const Model &model) {
    const int n_sets = model.kind == ModelKind::polarizability ? 2 : 1;
    const std::size_t n_networks = static_cast<std::size_t>(n_sets) * model.n_types();
    weights_.assign(n_networks * view_.network_stride, Real(0));
    biases_.assign(n_networks * view_.neuron_stride, Real(0));
    outputs_.assign(n_networks * 2 * view_.neuron_stride, Real(0));
    energy_shift_.assign(n_networks, 0.0);
    for (int set = 0; set < n_sets; ++set) {
        for (int type = 0; type < model.n_types(); ++type) {
            set_network(model, type, set, static_cast<std::size_t>(set) * model.n_types() + type);
        }
    }
    view_.weights = weights_.data();
    view_.biases = biases_.data();
    view_.outputs = outputs_.data();
    view_.energy_shift = energy_shift_.data();
}

template <typename Real>
void PreparedModel<Real>::set_network(const Model &model, int type, int set, std::size_t network) {
    const int n_descriptors = model.n_descriptors(), n_neurons = model.n_neurons;
    const double *from = model.parameters.data() + model.network_offset(type, set);
    const double *scaler = model.parameters.data() + model.scaler_offset();
    Real *weights = weights_.data() + network * view_.network_stride;
    for (int neuron = 0; neuron < n_neurons; ++neuron) {
        for (int d = 0; d < n_descriptors; ++d) {
            weights[static_cast<std::size_t>(d) * view_.neuron_stride + neuron] =
                static_cast<Real>(from[static_cast<std::size_t>(neuron) * n_descriptors + d] * scaler[d]);
        }
    }
    from += static_cast<std::size_t>(n_neurons) * n_descriptors;
    std::transform(from, from + n_neurons, biases_.data() + network * view_.neuron_stride,
                   [](double x) { return static_cast<Real>(x); });
    from += n_neurons;
    for (int output = 0; output < model.n_outputs(); ++output, from += n_neurons) {
        std::transform(from, from + n_neurons, outputs_.data() + (2 * network + output) * view_.neuron_stride,
                       [](double x) { return static_cast<Real>(x); });
    }
    const double type_bias = model.version == 5 ? *from : 0.0;
    energy_shift_[network] = -type_bias - model.parameters[model.bias_offset(set)];
}

template <typename Real>
void PreparedModel<Real>::set_cutoffs(const Model &model) {
    for (int i = 0; i < model.n_types(); ++i) {
        for (int j = 0; j < model.n_types(); ++j) {
            radial_cutoffs_.push_back(0.5 * (model.radial_cutoffs[i] + model.radial_cutoffs[j]));
            angular_cutoffs_.push_back(0.5 * (model.angular_cutoffs[i] + model.angular_cutoffs[j]));
            list_cutoffs_.push_back(std::max(radial_cutoffs_.back(), angular_cutoffs_.back()));
        }
    }
    inverse_angular_cutoffs_.assign(static_cast<std::size_t>(model.n_types()) * most_types_by_lane, Real(0));
    for (int i = 0; i < model.n_types(); ++i) {
        for (int j = 0; j < std::min(model.n_types(), most_types_by_lane); ++j) {
            inverse_angular_cutoffs_[i * most_types_by_lane + j] =
                static_cast<Real>(1.0 / angular_cutoffs_[i * model.n_types() + j]);
        }
    }
    view_.inverse_angular_cutoffs = inverse_angular_cutoffs_.data();
    view_.radial_cutoffs = radial_cutoffs_.data();
    view_.angular_cutoffs = angular_cutoffs_.data();
    view_.list_cutoffs = list_cutoffs_.data();
}

template class PreparedModel<double>;
template class PreparedModel<float>;

}  // namespace qnep
