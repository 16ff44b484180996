// What the kernels read of the atoms and keep for each of them, and the functions of a pair that they share.
#pragma once

#include "device_model.h"

#include "constants.h"

namespace qnep {

/// The atom that a thread of a team works on.
struct ThreadAtom {
    int index;    // -1: the thread is beyond the last atom
    int element;  // -1: none, or no model
};

/// Atoms of this process; ghosts behind the owned ones.
template <class Device>
struct DeviceAtoms {
    int n_owned = 0;
    int n_total = 0;
    int n_lists = 0;  // atoms that have neighbours

    Kokkos::View<double *[4], Kokkos::LayoutRight, Device> packed;   // [n_total]: x, y, z in Å, and the element index
    Kokkos::View<const int *, Kokkos::LayoutStride, Device> owned;   // [n_lists]
    Kokkos::View<const int *, Kokkos::LayoutStride, Device> counts;  // [n_owned]
    Kokkos::View<const int **, Kokkos::LayoutStride, Device> neighbors;  // [n_owned][...]
    int neighbor_mask = ~0;

    template <class Member>
    KOKKOS_FORCEINLINE_FUNCTION ThreadAtom atom_of(const Member &member) const {
        const int k = member.league_rank() * member.team_size() + member.team_rank();
        if (k >= n_lists) {
            return {-1, -1};
        }
        const int i = owned(k);
        return {i, static_cast<int>(packed(i, 3))};
    }
};

/// What the network pass leaves for the force pass.
template <class Device, typename Real>
struct AtomStates {
    // Neighbours within the cutoffs. Those within the angular cutoff fill a row from the front, the others from the
    // back.
    Kokkos::View<int **, Kokkos::LayoutRight, Device> near;
    Kokkos::View<int *[2], Kokkos::LayoutRight, Device> n_near;      // angular ones, others
    Kokkos::View<Real **, Kokkos::LayoutRight, Device> sums;         // [n_owned][lm][n]: angular sums
    Kokkos::View<Real **, Kokkos::LayoutRight, Device> derivatives;  // [n_owned][2][descriptor]: of energy and charge

    KOKKOS_INLINE_FUNCTION int neighbor(int i, int slot, int n_angular) const {
        return near(i, slot < n_angular ? slot : static_cast<int>(near.extent(1)) - 1 - (slot - n_angular));
    }
};

/// A vector from an atom to its neighbour.
template <typename Real>
struct PairVector {
    Real x, y, z;  // unit vector
    Real distance;
    int neighbor, type;

    template <class Packed>
    KOKKOS_FORCEINLINE_FUNCTION PairVector(const Packed &packed, int i, int j): neighbor(j) {
        const double dx = packed(j, 0) - packed(i, 0);
        const double dy = packed(j, 1) - packed(i, 1);
        const double dz = packed(j, 2) - packed(i, 2);
        type = static_cast<int>(packed(j, 3));
        x = static_cast<Real>(dx);
        y = static_cast<Real>(dy);
        z = static_cast<Real>(dz);
        distance = Kokkos::sqrt(static_cast<Real>(dx * dx + dy * dy + dz * dz));
        const Real inverse = Real(1) / distance;
        x *= inverse;
        y *= inverse;
        z *= inverse;
    }
};

/// Calls body(k, tau_k, dtau_k/dd) for tau_k = T_k f_c, k = 0 ... n - 1.
template <typename Real, typename Body>
KOKKOS_FORCEINLINE_FUNCTION void for_basis_functions(Real distance, Real inverse_cutoff, int n, const Body &body) {
    Real u = distance * inverse_cutoff;
    u = u > Real(1) ? Real(1) : u;
    Real x, x_slope, value, slope;
    chebyshev_argument<Real>(u, x, x_slope);
    cutoff_function<Real>(u, value, slope);
    slope *= inverse_cutoff;
    x_slope *= inverse_cutoff;
    body(0, value, slope);
    Real next_value = x * value, next_slope = x * slope + x_slope * value;
    for (int k = 1; k < n; ++k) {
        body(k, next_value, next_slope);
        const Real following = Real(2) * x * next_value - value;
        const Real following_slope = Real(2) * (x * next_slope + x_slope * next_value) - slope;
        value = next_value;
        slope = next_slope;
        next_value = following;
        next_slope = following_slope;
    }
}

/// Whether ZBL acts on a pair; it does so within the angular cutoff.
template <typename Real>
KOKKOS_INLINE_FUNCTION bool is_repelled(const DeviceModelView<Real> &model, int pair, Real distance) {
    return model.zbl != nullptr && distance < model.zbl[pair].outer && distance < model.angular_cutoffs[pair];
}

/// Calls body(first descriptor, monomials) for the switched-on invariants of three sums, and body_1111(first
/// descriptor).
template <int L, typename Real, typename Body, typename Body1111>
KOKKOS_FORCEINLINE_FUNCTION void for_invariants(const DeviceModelView<Real> &model, const Body &body,
                                                const Body1111 &body_1111) {
    int at = model.n_radial + L * model.n_angular;
    const auto is_on = [&](Invariant invariant) { return model.invariants[static_cast<int>(invariant)]; };
    if constexpr (L >= 2) {
        if (is_on(Invariant::q222)) {
            body(at, model.tables->q222);
            at += model.n_angular;
        }
    }
    if (is_on(Invariant::q1111)) {
        body_1111(at);
        at += model.n_angular;
    }
    if constexpr (L >= 2) {
        if (is_on(Invariant::q112)) {
            body(at, model.tables->q112);
            at += model.n_angular;
        }
    }
    if constexpr (L >= 3) {
        if (is_on(Invariant::q123)) {
            body(at, model.tables->q123);
            at += model.n_angular;
        }
        if (is_on(Invariant::q233)) {
            body(at, model.tables->q233);
            at += model.n_angular;
        }
    }
    if constexpr (L >= 4) {
        if (is_on(Invariant::q134)) {
            body(at, model.tables->q134);
        }
    }
}

}  // namespace qnep
