// Second pass: forces, virials and Born effective charges from the derivatives that the network pass left; and the
// real-space Coulomb sum.
//
// One thread of a team per atom, one vector lane per neighbour.
#pragma once

#include <Kokkos_ScatterView.hpp>

#include "device_atoms.h"
#include "shapes.h"

namespace qnep {

/// Force on an atom from its own energy, and its virial xx yy zz xy xz yz.
struct ForceSums {
    double force[3] = {};    // eV/Å
    double virial[6] = {};   // eV
    double energy = 0.0;     // eV
    double potential = 0.0;  // V

    KOKKOS_INLINE_FUNCTION ForceSums &operator+=(const ForceSums &other) {
        for (int c = 0; c < 3; ++c) {
            force[c] += other.force[c];
        }
        for (int c = 0; c < 6; ++c) {
            virial[c] += other.virial[c];
        }
        energy += other.energy;
        potential += other.potential;
        return *this;
    }
};

/// What pair gradients G_ij = dU_i/dr_ij are added to; duplicated for threads of a processor, atomic on a device.
template <class Device>
struct ForceScatter {
    using Forces = Kokkos::View<double *[3], Kokkos::LayoutRight, Device>;
    using Virials = Kokkos::View<double *[9], Kokkos::LayoutRight, Device>;
    template <typename Data>
    using Scatter = Kokkos::Experimental::ScatterView<Data, Kokkos::LayoutRight, Device>;

    Scatter<double *[3]> forces;   // [n_total]: F_i += G, F_j -= G, eV/Å
    Scatter<double *[9]> virials;  // [n_total]: W_j -= r_ij (x) G_ij, row-major, eV; only with wants_atom_virials
    bool wants_atom_virials = false;

    template <typename Real>
    KOKKOS_FORCEINLINE_FUNCTION void add(const PairVector<Real> &vector, Real gx, Real gy, Real gz,
                                         ForceSums &sums) const {
        const double r[3] = {static_cast<double>(vector.distance * vector.x),
                             static_cast<double>(vector.distance * vector.y),
                             static_cast<double>(vector.distance * vector.z)};
        const double g[3] = {static_cast<double>(gx), static_cast<double>(gy), static_cast<double>(gz)};
        const auto f = forces.access();
        for (int c = 0; c < 3; ++c) {
            f(vector.neighbor, c) -= g[c];
            sums.force[c] += g[c];
            sums.virial[c] -= r[c] * g[c];
        }
        sums.virial[3] -= r[0] * g[1];
        sums.virial[4] -= r[0] * g[2];
        sums.virial[5] -= r[1] * g[2];
        if (wants_atom_virials) {
            const auto w = virials.access();
            for (int c = 0; c < 9; ++c) {
                w(vector.neighbor, c) -= r[c / 3] * g[c % 3];
            }
        }
    }

    KOKKOS_FORCEINLINE_FUNCTION void add_own(int i, const ForceSums &sums) const {
        const auto f = forces.access();
        for (int c = 0; c < 3; ++c) {
            f(i, c) += sums.force[c];
        }
    }
};

/// Gradients G_ij = dU_i/dr_ij of U_i, a sum of the energy and the charge that the networks give an atom.
template <class Device, typename Real, class Shape>
struct NetworkGradient {
    using Policy = Kokkos::TeamPolicy<Device>;
    using Member = typename Policy::member_type;

    DeviceModelView<Real> model;
    DeviceAtoms<Device> atoms;
    AtomStates<Device, Real> states;
    int scratch_level = 0;

    KOKKOS_INLINE_FUNCTION std::size_t scratch_bytes() const {
        return sizeof(Real) * (static_cast<std::size_t>(model.n_descriptors) + Shape::n_lm * model.n_angular);
    }

    /// Derivatives of U_i: of the descriptors, behind them of the angular sums. Scratch memory of the atom's lanes.
    KOKKOS_INLINE_FUNCTION Real *derivatives_of(const Member &member, int i, Real energy_weight,
                                                Real charge_weight) const {
        Real *derivatives = static_cast<Real *>(member.thread_scratch(scratch_level).get_shmem(scratch_bytes()));
        Kokkos::parallel_for(Kokkos::ThreadVectorRange(member, model.n_descriptors), [&](int d) {
            Real value = energy_weight * states.derivatives(i, d);
            if (model.has_charges) {
                value += charge_weight * states.derivatives(i, model.n_descriptors + d);
            }
            derivatives[d] = value;
        });
        angular_sum_derivatives(member, i, derivatives, derivatives + model.n_descriptors);
        return derivatives;
    }

    /// Adds the part across the bond to g and returns the part along it; without the repulsion.
    KOKKOS_FORCEINLINE_FUNCTION Real pair_gradient(const PairVector<Real> &vector, int pair, bool is_angular,
                                                   const Real *derivatives, Real &gx, Real &gy, Real &gz) const {
        Real along = radial_slope(vector, pair, derivatives);
        if (is_angular) {
            along += angular_gradient(vector, pair, derivatives + model.n_descriptors, gx, gy, gz);
        }
        return along;
    }

private:
    // dU/ds from the derivatives with respect to the descriptors, [lm][n].
    KOKKOS_INLINE_FUNCTION void angular_sum_derivatives(const Member &member, int i, const Real *derivatives,
                                                        Real *to) const {
        const int n_functions = Shape::n_angular(model);
        Kokkos::parallel_for(Kokkos::ThreadVectorRange(member, n_functions), [&](int n) {
            const auto sum = [&](int lm) { return states.sums(i, lm * n_functions + n); };
            for (int l = 1; l <= Shape::l_max; ++l) {
                const Real twice = Real(2) * derivatives[model.n_radial + (l - 1) * n_functions + n];
                for (int lm = l * l - 1; lm < (l + 1) * (l + 1) - 1; ++lm) {
                    to[lm * n_functions + n] = static_cast<Real>(model.tables->weight[lm]) * twice * sum(lm);
                }
            }
            const auto add = [&](int lm, Real value) { to[lm * n_functions + n] += value; };
            for_invariants<Shape::l_max>(
                model,
                [&](int at, const auto &monomials) {
                    invariant_derivative<Real, Real>(monomials, sum, derivatives[at + n], add);
                },
                [&](int at) {
                    const Real square = sum(0) * sum(0) + sum(1) * sum(1) + sum(2) * sum(2);
                    const Real scale = static_cast<Real>(4.0 * coefficient_1111) * derivatives[at + n] * square;
                    for (int lm = 0; lm < 3; ++lm) {
                        add(lm, scale * sum(lm));
                    }
                });
        });
    }

    KOKKOS_INLINE_FUNCTION Real radial_slope(const PairVector<Real> &vector, int pair, const Real *derivatives) const {
        const Real *c = model.radial_kn + pair * Shape::k_radial(model) * model.radial_n_stride;
        Real total(0);
        for_basis_functions(vector.distance, static_cast<Real>(1.0 / model.radial_cutoffs[pair]),
                            Shape::k_radial(model), [&](int k, Real, Real slope) {
                                Real weight(0);
                                for (int n = 0; n < Shape::n_radial(model); ++n) {
                                    weight += derivatives[n] * c[k * model.radial_n_stride + n];
                                }
                                total += weight * slope;
                            });
        return total;
    }

    // Adds the part across the bond to g and returns the part along it.
    KOKKOS_INLINE_FUNCTION Real angular_gradient(const PairVector<Real> &vector, int pair, const Real *sum_derivatives,
                                                 Real &gx, Real &gy, Real &gz) const {
        const int n_functions = Shape::n_angular(model);
        const Real *c = model.angular_kn + pair * Shape::k_angular(model) * model.angular_n_stride;
        Real values[Shape::most_functions] = {}, slopes[Shape::most_functions] = {};
        for_basis_functions(vector.distance, static_cast<Real>(1.0 / model.angular_cutoffs[pair]),
                            Shape::k_angular(model), [&](int k, Real value, Real slope) {
                                for (int n = 0; n < n_functions; ++n) {
                                    values[n] += c[k * model.angular_n_stride + n] * value;
                                    slopes[n] += c[k * model.angular_n_stride + n] * slope;
                                }
                            });
        const auto contract = [&](const Real *functions, int lm) {
            Real sum(0);
            for (int n = 0; n < n_functions; ++n) {
                sum += functions[n] * sum_derivatives[lm * n_functions + n];
            }
            return sum;
        };
        Real along(0), free_x, free_y, free_z;
        harmonics<Shape::l_max, Real>(vector.x, vector.y, vector.z,
                                      [&](int lm, Real value) { along += value * contract(slopes, lm); });
        harmonics_gradient<Shape::l_max, Real>(
            vector.x, vector.y, vector.z, [&](int lm) { return contract(values, lm); }, free_x, free_y, free_z);
        // The projection (1 - u u^T)/d turns the free gradient into that on the sphere.
        const Real inverse = Real(1) / vector.distance;
        gx = free_x * inverse;
        gy = free_y * inverse;
        gz = free_z * inverse;
        return along - (gx * vector.x + gy * vector.y + gz * vector.z);
    }
};

template <class Device, typename Real, class Shape>
struct ForcePass : NetworkGradient<Device, Real, Shape> {
    using Gradient = NetworkGradient<Device, Real, Shape>;
    using Gradient::model, Gradient::atoms, Gradient::states;
    using typename Gradient::Member;

    Kokkos::View<const double *, Device> charge_derivatives;  // [n_owned], V; only for models with charges
    ForceScatter<Device> scatter;

    KOKKOS_INLINE_FUNCTION void operator()(const Member &member, ForceSums &total) const {
        const ThreadAtom atom = atoms.atom_of(member);
        const int i = atom.index, type = atom.element;
        if (type < 0) {
            return;
        }
        const Real charge_weight = model.has_charges ? static_cast<Real>(charge_derivatives(i)) : Real(0);
        const Real *derivatives = this->derivatives_of(member, i, Real(1), charge_weight);
        const int n_angular_slots = states.n_near(i, 0);
        const int n_slots = n_angular_slots + states.n_near(i, 1);
        ForceSums own;
        Kokkos::parallel_reduce(
            Kokkos::ThreadVectorRange(member, n_slots),
            [&](int slot, ForceSums &sums) {
                const PairVector<Real> vector(atoms.packed, i, states.neighbor(i, slot, n_angular_slots));
                const int pair = type * model.n_types + vector.type;
                const bool is_angular = slot < n_angular_slots;
                Real gx(0), gy(0), gz(0);
                Real along = this->pair_gradient(vector, pair, is_angular, derivatives, gx, gy, gz);
                if (is_angular) {
                    along += repulsion_slope(vector, pair);
                }
                scatter.add(vector, gx + along * vector.x, gy + along * vector.y, gz + along * vector.z, sums);
            },
            own);
        Kokkos::single(Kokkos::PerThread(member), [&]() {
            scatter.add_own(i, own);
            total += own;
        });
    }

private:
    KOKKOS_INLINE_FUNCTION Real repulsion_slope(const PairVector<Real> &vector, int pair) const {
        if (!is_repelled(model, pair, vector.distance)) {
            return Real(0);
        }
        double energy, slope;
        zbl_repulsion(model.zbl[pair], vector.distance, energy, slope);
        return static_cast<Real>(0.5 * slope);
    }
};

/// Numbers of one atom, row-major.
struct Tensor {
    double values[9] = {};

    KOKKOS_INLINE_FUNCTION Tensor &operator+=(const Tensor &other) {
        for (int c = 0; c < 9; ++c) {
            values[c] += other.values[c];
        }
        return *this;
    }
};

/// Born effective charges without their diagonal part: (s/2) r_ij (x) dq_i/dr_ij for i, and its negative for j.
template <class Device, typename Real, class Shape>
struct BornPass : NetworkGradient<Device, Real, Shape> {
    using Gradient = NetworkGradient<Device, Real, Shape>;
    using Gradient::model, Gradient::atoms, Gradient::states;
    using typename Gradient::Member;

    double scale = 0.0;                                                 // s/2
    typename ForceScatter<Device>::template Scatter<double *[9]> born;  // [n_total], e, field direction slow

    KOKKOS_INLINE_FUNCTION void operator()(const Member &member) const {
        const ThreadAtom atom = atoms.atom_of(member);
        const int i = atom.index, type = atom.element;
        if (type < 0) {
            return;
        }
        const Real *derivatives = this->derivatives_of(member, i, Real(0), Real(1));
        const int n_angular_slots = states.n_near(i, 0);
        const int n_slots = n_angular_slots + states.n_near(i, 1);
        Tensor own;
        Kokkos::parallel_reduce(
            Kokkos::ThreadVectorRange(member, n_slots),
            [&](int slot, Tensor &sum) {
                const PairVector<Real> vector(atoms.packed, i, states.neighbor(i, slot, n_angular_slots));
                const int pair = type * model.n_types + vector.type;
                Real gx(0), gy(0), gz(0);
                const Real along = this->pair_gradient(vector, pair, slot < n_angular_slots, derivatives, gx, gy, gz);
                const Real u[3] = {vector.x, vector.y, vector.z};
                const Real g[3] = {gx + along * u[0], gy + along * u[1], gz + along * u[2]};
                const auto of_neighbor = born.access();
                for (int c = 0; c < 9; ++c) {
                    const double product = scale * static_cast<double>(vector.distance * u[c / 3] * g[c % 3]);
                    of_neighbor(vector.neighbor, c) -= product;
                    sum.values[c] += product;
                }
            },
            own);
        Kokkos::single(Kokkos::PerThread(member), [&]() {
            const auto of_atom = born.access();
            for (int c = 0; c < 9; ++c) {
                of_atom(i, c) += own.values[c];
            }
        });
    }
};

/// Real-space part of the Ewald sum, truncated at the radial cutoff, and the self term (charge mode 1).
template <class Device, typename Real>
struct CoulombPass {
    using Policy = Kokkos::TeamPolicy<Device>;
    using Member = typename Policy::member_type;

    DeviceModelView<Real> model;
    DeviceAtoms<Device> atoms;
    AtomStates<Device, Real> states;
    Kokkos::View<const double *, Device> charges;  // [n_total], e
    Kokkos::View<double *, Device> energies;       // [n_owned], eV, added to
    Kokkos::View<double *, Device> potentials;     // [n_owned], V, added to
    ForceScatter<Device> scatter;
    int scratch_level = 0;

    std::size_t scratch_bytes() const { return 0; }

    KOKKOS_INLINE_FUNCTION void operator()(const Member &member, ForceSums &total) const {
        const ThreadAtom atom = atoms.atom_of(member);
        const int i = atom.index, type = atom.element;
        if (type < 0) {
            return;
        }
        const double q = charges(i);
        const double alpha = model.ewald_alpha;
        const double slope_factor = 2.0 * alpha / Kokkos::sqrt(pi);
        const int n_angular_slots = states.n_near(i, 0);
        const int n_slots = n_angular_slots + states.n_near(i, 1);
        ForceSums own;
        Kokkos::parallel_reduce(
            Kokkos::ThreadVectorRange(member, n_slots),
            [&](int slot, ForceSums &sums) {
                const PairVector<Real> vector(atoms.packed, i, states.neighbor(i, slot, n_angular_slots));
                const double d = vector.distance;
                if (d >= model.radial_cutoffs[type * model.n_types + vector.type]) {
                    return;
                }
                const double kernel = Kokkos::erfc(alpha * d) / d;
                const double q_j = charges(vector.neighbor);
                sums.potential += coulomb_constant * q_j * kernel;
                sums.energy += 0.5 * coulomb_constant * q * q_j * kernel;
                const double slope = -0.5 * coulomb_constant * q * q_j *
                                     (kernel + slope_factor * Kokkos::exp(-alpha * alpha * d * d)) / d;
                scatter.add(vector, static_cast<Real>(slope * vector.x), static_cast<Real>(slope * vector.y),
                            static_cast<Real>(slope * vector.z), sums);
            },
            own);
        const double self = coulomb_constant * alpha / Kokkos::sqrt(pi);
        own.energy -= self * q * q;
        own.potential -= 2.0 * self * q;
        Kokkos::single(Kokkos::PerThread(member), [&]() {
            energies(i) += own.energy;
            potentials(i) += own.potential;
            scatter.add_own(i, own);
            total += own;
        });
    }
};

}  // namespace qnep
