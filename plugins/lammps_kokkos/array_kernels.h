// Small loops over atoms on the device. Free functions, because nvcc does not compile device code inside private
// members.
#pragma once

#include <array>

#include "device_atoms.h"

namespace qnep {

template <class Device, class Positions, class Types, class Packed>
void pack_atoms(int n, const Positions &positions, const Types &types, const Kokkos::View<int *, Device> &type_map,
                const Packed &packed) {
    Kokkos::parallel_for(
        "qnep:pack", Kokkos::RangePolicy<Device>(0, n), KOKKOS_LAMBDA(int i) {
            for (int d = 0; d < 3; ++d) {
                packed(i, d) = positions(i, d);
            }
            packed(i, 3) = type_map(types(i));
        });
}

template <class Device>
void shift_charges(const DeviceAtoms<Device> &atoms, double shift, const Kokkos::View<double *, Device> &charges) {
    const auto packed = atoms.packed;
    Kokkos::parallel_for(
        "qnep:shift", Kokkos::RangePolicy<Device>(0, atoms.n_owned),
        KOKKOS_LAMBDA(int i) { charges(i) = packed(i, 3) >= 0.0 ? charges(i) + shift : 0.0; });
}

template <class Device>
double sum_over_model(const DeviceAtoms<Device> &atoms, const Kokkos::View<double *, Device> &values) {
    const auto packed = atoms.packed;
    double total = 0.0;
    Kokkos::parallel_reduce(
        "qnep:mean", Kokkos::RangePolicy<Device>(0, atoms.n_owned),
        KOKKOS_LAMBDA(int i, double &sum) { sum += packed(i, 3) >= 0.0 ? values(i) : 0.0; }, total);
    return total;
}

template <class Device, class Forces>
void subtract_means(const DeviceAtoms<Device> &atoms, double mean_derivative, std::array<double, 3> mean_force,
                    const Kokkos::View<double *, Device> &derivatives, const Forces &forces) {
    const auto packed = atoms.packed;
    const double fx = mean_force[0], fy = mean_force[1], fz = mean_force[2];
    Kokkos::parallel_for(
        "qnep:means", Kokkos::RangePolicy<Device>(0, atoms.n_owned), KOKKOS_LAMBDA(int i) {
            if (packed(i, 3) < 0.0) {
                derivatives(i) = 0.0;
                return;
            }
            derivatives(i) -= mean_derivative;
            forces(i, 0) -= fx;
            forces(i, 1) -= fy;
            forces(i, 2) -= fz;
        });
}

/// For all atoms of the model, ghosts too.
template <class Device, class To>
void copy_charges(const DeviceAtoms<Device> &atoms, const Kokkos::View<double *, Device> &from, const To &to) {
    const auto packed = atoms.packed;
    Kokkos::parallel_for(
        "qnep:store", Kokkos::RangePolicy<Device>(0, atoms.n_total), KOKKOS_LAMBDA(int i) {
            if (packed(i, 3) >= 0.0) {
                to(i) = from(i);
            }
        });
}

template <class Device, class From, class To>
void add_scaled(int n, double scale, const From &from, const To &to) {
    Kokkos::parallel_for(
        "qnep:add", Kokkos::RangePolicy<Device>(0, n), KOKKOS_LAMBDA(int i) {
            for (int d = 0; d < 3; ++d) {
                to(i, d) += scale * from(i, d);
            }
        });
}

template <class Device, class Indices, class To>
void gather_values(int n, const Indices &indices, const Kokkos::View<double *, Device> &from, const To &to) {
    Kokkos::parallel_for(
        "qnep:gather", Kokkos::RangePolicy<Device>(0, n), KOKKOS_LAMBDA(int k) { to(k) = from(indices(k)); });
}

template <class Device, class From>
void place_values(int n, int first, const From &from, const Kokkos::View<double *, Device> &to) {
    Kokkos::parallel_for(
        "qnep:place", Kokkos::RangePolicy<Device>(0, n), KOKKOS_LAMBDA(int k) { to(first + k) = from(k); });
}

}  // namespace qnep
