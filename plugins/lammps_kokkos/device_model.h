// A model on the device.
#pragma once

#include "device_math.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "atom_kernel.h"
#include "prepared_model.h"

namespace qnep {

/// Constants that device code cannot take from the arrays of descriptor_math.h, because it indexes them at run time.
struct InvariantTables {
    double weight[n_harmonics(ModelLimits::l_max)];  // of s_lm^2 in q_l, [harmonic_index]
    Monomial q222[std::size(monomials_222)];
    Monomial q112[std::size(monomials_112)];
    Monomial q123[std::size(monomials_123)];
    Monomial q233[std::size(monomials_233)];
    Monomial q134[std::size(monomials_134)];
};

inline InvariantTables make_invariant_tables() {
    InvariantTables tables;
    for (int l = 1; l <= ModelLimits::l_max; ++l) {
        tables.weight[harmonic_index(l, 0, false)] = harmonic_weight[l][0];
        for (int m = 1; m <= l; ++m) {
            tables.weight[harmonic_index(l, m, false)] = tables.weight[harmonic_index(l, m, true)] =
                2.0 * harmonic_weight[l][m];
        }
    }
    std::copy(std::begin(monomials_222), std::end(monomials_222), tables.q222);
    std::copy(std::begin(monomials_112), std::end(monomials_112), tables.q112);
    std::copy(std::begin(monomials_123), std::end(monomials_123), tables.q123);
    std::copy(std::begin(monomials_233), std::end(monomials_233), tables.q233);
    std::copy(std::begin(monomials_134), std::end(monomials_134), tables.q134);
    return tables;
}

/// What kernels capture: a KernelModel whose pointers are of the device, and what only they need.
template <typename Real>
struct DeviceModelView : KernelModel<Real> {
    const InvariantTables *tables;
    const Real *transposed_weights;  // [t][neuron][descriptor], so that both passes of a network read whole rows
    int descriptor_stride;           // of transposed_weights
    double ewald_alpha;              // 1/Å; 0 without charges
};

/// Owns the arrays on the device.
template <class Device, typename Real>
class DeviceModel {
public:
    DeviceModel(const Model &model, double temperature) {
        const PreparedModel<Real> prepared(model, temperature);
        const KernelModel<Real> &host = prepared.view();
        static_cast<KernelModel<Real> &>(view_) = host;
        const std::size_t n_types = host.n_types, n_pairs = n_types * n_types;
        put(radial_kn_, host.radial_kn, n_pairs * host.k_radial * host.radial_n_stride, view_.radial_kn);
        put(radial_nk_, host.radial_nk, n_pairs * host.n_radial * host.radial_k_stride, view_.radial_nk);
        put(angular_kn_, host.angular_kn, n_pairs * host.k_angular * host.angular_n_stride, view_.angular_kn);
        put(weights_, host.weights, n_types * host.network_stride, view_.weights);
        put(biases_, host.biases, n_types * host.neuron_stride, view_.biases);
        put(outputs_, host.outputs, 2 * n_types * host.neuron_stride, view_.outputs);
        put(energy_shift_, host.energy_shift, n_types, view_.energy_shift);
        put(radial_cutoffs_, host.radial_cutoffs, n_pairs, view_.radial_cutoffs);
        put(angular_cutoffs_, host.angular_cutoffs, n_pairs, view_.angular_cutoffs);
        put(list_cutoffs_, host.list_cutoffs, n_pairs, view_.list_cutoffs);
        if (host.zbl != nullptr) {
            put(zbl_, host.zbl, n_pairs, view_.zbl);
        }
        const InvariantTables tables = make_invariant_tables();
        put(tables_, &tables, 1, view_.tables);
        put_transposed_weights(host);
        view_.ewald_alpha = model.has_charges() ? model.ewald_alpha() : 0.0;
    }

    const DeviceModelView<Real> &view() const { return view_; }

private:
    template <typename T>
    using Array = Kokkos::View<T *, Device>;

    template <typename T>
    static void put(Array<T> &array, const T *values, std::size_t n, const T *&pointer) {
        array = Array<T>(Kokkos::view_alloc("qnep:model", Kokkos::WithoutInitializing), n);
        Kokkos::deep_copy(array, Kokkos::View<const T *, Kokkos::HostSpace>(values, n));
        pointer = array.data();
    }

    void put_transposed_weights(const KernelModel<Real> &host) {
        view_.descriptor_stride = (host.n_descriptors + 15) / 16 * 16;
        const std::size_t per_type = static_cast<std::size_t>(host.n_neurons) * view_.descriptor_stride;
        std::vector<Real> transposed(host.n_types * per_type, Real(0));
        for (int type = 0; type < host.n_types; ++type) {
            const Real *from = host.weights + type * host.network_stride;
            Real *to = transposed.data() + type * per_type;
            for (int neuron = 0; neuron < host.n_neurons; ++neuron) {
                for (int d = 0; d < host.n_descriptors; ++d) {
                    to[static_cast<std::size_t>(neuron) * view_.descriptor_stride + d] =
                        from[static_cast<std::size_t>(d) * host.neuron_stride + neuron];
                }
            }
        }
        put(transposed_weights_, transposed.data(), transposed.size(), view_.transposed_weights);
    }

    DeviceModelView<Real> view_{};
    Array<Real> radial_kn_, radial_nk_, angular_kn_, weights_, transposed_weights_, biases_, outputs_;
    Array<double> energy_shift_, radial_cutoffs_, angular_cutoffs_, list_cutoffs_;
    Array<ZblPair> zbl_;
    Array<InvariantTables> tables_;
};

}  // namespace qnep
