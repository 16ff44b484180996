// Sizes of models, where possible as compile-time constants.
#pragma once

#include "device_model.h"

namespace qnep {

/// Largest l, and the numbers of radial functions and of basis functions where both parts of the descriptor share them;
/// zero: as the model says when it runs.
template <int L, int N, int K>
struct Shape {
    static constexpr int l_max = L;
    static constexpr int n_lm = n_harmonics(L);
    static constexpr int most_functions = N > 0 ? N : ModelLimits::n_max + 1;

    template <typename Real>
    static KOKKOS_FORCEINLINE_FUNCTION int n_radial(const DeviceModelView<Real> &model) {
        return N > 0 ? N : model.n_radial;
    }
    template <typename Real>
    static KOKKOS_FORCEINLINE_FUNCTION int n_angular(const DeviceModelView<Real> &model) {
        return N > 0 ? N : model.n_angular;
    }
    template <typename Real>
    static KOKKOS_FORCEINLINE_FUNCTION int k_radial(const DeviceModelView<Real> &model) {
        return K > 0 ? K : model.k_radial;
    }
    template <typename Real>
    static KOKKOS_FORCEINLINE_FUNCTION int k_angular(const DeviceModelView<Real> &model) {
        return K > 0 ? K : model.k_angular;
    }
};

template <int L, typename Body>
void with_l_max(int l_max, const Body &body) {
    if constexpr (L == 1) {
        body(Shape<1, 0, 0>());
    } else if (l_max == L) {
        body(Shape<L, 0, 0>());
    } else {
        with_l_max<L - 1>(l_max, body);
    }
}

/// Calls body(Shape) with the shape of the model; the usual ones are compiled with constant sizes.
template <typename Real, typename Body>
void with_shape(const DeviceModelView<Real> &model, const Body &body) {
    const auto has = [&](int n, int k) {
        return model.l_max == 4 && model.n_radial == n && model.n_angular == n && model.k_radial == k &&
               model.k_angular == k;
    };
    if (has(5, 9)) {
        body(Shape<4, 5, 9>());
    } else if (has(9, 9)) {
        body(Shape<4, 9, 9>());
    } else {
        with_l_max<ModelLimits::l_max>(model.l_max, body);
    }
}

}  // namespace qnep
