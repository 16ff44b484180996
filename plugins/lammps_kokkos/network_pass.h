// First pass: neighbours within the cutoffs, descriptor and network of each atom.
//
// One thread of a team evaluates one atom; its vector lanes share the work. Descriptor: the lanes first evaluate the
// functions of one neighbour each and put them into scratch memory ("tile"), then each lane sums some of the products
// over the neighbours of the tile. So no sum over lanes is needed. On a processor a thread is one lane.
#pragma once

#include "device_atoms.h"
#include "shapes.h"

namespace qnep {

/// Sums over the atoms.
struct NetworkSums {
    double energy = 0.0;  // eV
    double charge = 0.0;  // e
    double square = 0.0;  // e^2
    double n_atoms = 0.0;

    KOKKOS_INLINE_FUNCTION NetworkSums &operator+=(const NetworkSums &other) {
        energy += other.energy;
        charge += other.charge;
        square += other.square;
        n_atoms += other.n_atoms;
        return *this;
    }
};

template <class Device, typename Real, class Shape>
struct NetworkPass {
    using Policy = Kokkos::TeamPolicy<Device>;
    using Member = typename Policy::member_type;
    static constexpr int tile = 32;
    static constexpr int row = tile + 1;  // one more: lanes that read one column of several rows hit different banks
    static constexpr double coincident_squared = 1e-12;  // Å^2

    DeviceModelView<Real> model;
    DeviceAtoms<Device> atoms;
    AtomStates<Device, Real> states;
    Kokkos::View<double *, Device> energies;                         // [n_owned]
    Kokkos::View<double *, Device> charges;                          // [n_total]; of the owned atoms
    Kokkos::View<long long, Device> coincidence;                     // i n_total + j of two atoms at one place
    Kokkos::View<double **, Kokkos::LayoutRight, Device> described;  // [n_owned][n_descriptors]; empty: not wanted
    int scratch_level = 0;

    // Numbers of Real in the scratch memory of one atom.
    KOKKOS_INLINE_FUNCTION int tile_size() const {
        const int functions = Kokkos::max(model.n_radial, model.n_angular + Shape::n_lm);
        return Kokkos::max(functions * row, 2 * model.n_neurons);
    }
    KOKKOS_INLINE_FUNCTION std::size_t scratch_bytes() const {
        return sizeof(Real) * (tile_size() + model.n_descriptors + Shape::n_lm * model.n_angular);
    }

    KOKKOS_INLINE_FUNCTION void operator()(const Member &member, NetworkSums &sums) const {
        const ThreadAtom atom = atoms.atom_of(member);
        const int i = atom.index, type = atom.element;
        if (i < 0) {
            return;
        }
        if (type < 0) {
            Kokkos::single(Kokkos::PerThread(member), [&]() {
                energies(i) = 0.0;
                charges(i) = 0.0;
                states.n_near(i, 0) = states.n_near(i, 1) = 0;
            });
            return;
        }
        Real *tiles = static_cast<Real *>(member.thread_scratch(scratch_level).get_shmem(scratch_bytes()));
        Real *descriptors = tiles + tile_size();
        Real *angular_sums = descriptors + model.n_descriptors;
        int n_angular, n_others;
        select(member, i, type, n_angular, n_others);
        radial_descriptors(member, i, type, n_angular, n_angular + n_others, tiles, descriptors);
        sum_angular_functions(member, i, type, n_angular, tiles, angular_sums);
        angular_descriptors(member, i, angular_sums, descriptors);
        if (described.extent(0) > 0) {
            for_lanes(member, model.n_descriptors,
                      [&](int d) { described(i, d) = static_cast<double>(descriptors[d]); });
        }
        double energy, charge;
        infer(member, i, type, descriptors, tiles, energy, charge);
        energy += repulsion_energy(member, i, type, n_angular);
        Kokkos::single(Kokkos::PerThread(member), [&]() {
            energies(i) = energy;
            charges(i) = charge;
            sums.energy += energy;
            sums.charge += charge;
            sums.square += charge * charge;
            sums.n_atoms += 1.0;
        });
    }

private:
    template <typename Body>
    KOKKOS_FORCEINLINE_FUNCTION static void for_lanes(const Member &member, int n, const Body &body) {
        Kokkos::parallel_for(Kokkos::ThreadVectorRange(member, n), body);
    }

    // Both counts in one number, so that one scan finds the places of both kinds.
    KOKKOS_INLINE_FUNCTION void select(const Member &member, int i, int type, int &n_angular, int &n_others) const {
        constexpr int others_unit = 1 << 15;
        const int last = static_cast<int>(states.near.extent(1)) - 1;
        int both = 0;
        Kokkos::parallel_scan(
            Kokkos::ThreadVectorRange(member, atoms.counts(i)),
            [&](int n, int &count, bool is_final) {
                const int j = atoms.neighbors(i, n) & atoms.neighbor_mask;
                const int type_j = static_cast<int>(atoms.packed(j, 3));
                if (type_j < 0) {
                    return;
                }
                const double dx = atoms.packed(j, 0) - atoms.packed(i, 0);
                const double dy = atoms.packed(j, 1) - atoms.packed(i, 1);
                const double dz = atoms.packed(j, 2) - atoms.packed(i, 2);
                const double square = dx * dx + dy * dy + dz * dz;
                const int pair = type * model.n_types + type_j;
                if (square >= model.list_cutoffs[pair] * model.list_cutoffs[pair]) {
                    return;
                }
                const bool is_angular = square < model.angular_cutoffs[pair] * model.angular_cutoffs[pair];
                if (is_final) {
                    if (square < coincident_squared) {
                        Kokkos::atomic_max(&coincidence(), static_cast<long long>(i) * atoms.n_total + j);
                    }
                    states.near(i, is_angular ? count % others_unit : last - count / others_unit) = j;
                }
                count += is_angular ? 1 : others_unit;
            },
            both);
        n_angular = both % others_unit;
        n_others = both / others_unit;
        Kokkos::single(Kokkos::PerThread(member), [&]() {
            states.n_near(i, 0) = n_angular;
            states.n_near(i, 1) = n_others;
        });
    }

    KOKKOS_INLINE_FUNCTION void radial_descriptors(const Member &member, int i, int type, int n_angular, int n_slots,
                                                   Real *values, Real *descriptors) const {
        const int n_functions = Shape::n_radial(model);
        for_lanes(member, n_functions, [&](int n) { descriptors[n] = Real(0); });
        for (int first = 0; first < n_slots; first += tile) {
            const int count = n_slots - first < tile ? n_slots - first : tile;
            for_lanes(member, count, [&](int lane) {
                const PairVector<Real> vector(atoms.packed, i, states.neighbor(i, first + lane, n_angular));
                const int pair = type * model.n_types + vector.type;
                const Real *c = model.radial_kn + pair * Shape::k_radial(model) * model.radial_n_stride;
                radial_values<Shape::most_functions>(
                    vector.distance, static_cast<Real>(1.0 / model.radial_cutoffs[pair]), Shape::k_radial(model),
                    n_functions, c, model.radial_n_stride, values + lane);
            });
            for_lanes(member, n_functions, [&](int n) {
                Real sum = descriptors[n];
                for (int lane = 0; lane < count; ++lane) {
                    sum += values[n * row + lane];
                }
                descriptors[n] = sum;
            });
        }
    }

    // g_n = sum over k of c[k][n] tau_k into values[n * row].
    template <int most>
    KOKKOS_FORCEINLINE_FUNCTION static void radial_values(Real distance, Real inverse_cutoff, int n_basis,
                                                          int n_functions, const Real *c, int stride, Real *values) {
        Real sum[most] = {};
        for_basis_functions(distance, inverse_cutoff, n_basis, [&](int k, Real value, Real) {
            for (int n = 0; n < n_functions; ++n) {
                sum[n] += c[k * stride + n] * value;
            }
        });
        for (int n = 0; n < n_functions; ++n) {
            values[n * row] = sum[n];
        }
    }

    KOKKOS_INLINE_FUNCTION void sum_angular_functions(const Member &member, int i, int type, int n_slots, Real *radial,
                                                      Real *sums) const {
        const int n_functions = Shape::n_angular(model);
        Real *angular = radial + n_functions * row;
        for_lanes(member, Shape::n_lm * n_functions, [&](int place) { sums[place] = Real(0); });
        for (int first = 0; first < n_slots; first += tile) {
            const int count = n_slots - first < tile ? n_slots - first : tile;
            for_lanes(member, count, [&](int lane) {
                const PairVector<Real> vector(atoms.packed, i, states.near(i, first + lane));
                const int pair = type * model.n_types + vector.type;
                const Real *c = model.angular_kn + pair * Shape::k_angular(model) * model.angular_n_stride;
                radial_values<Shape::most_functions>(
                    vector.distance, static_cast<Real>(1.0 / model.angular_cutoffs[pair]), Shape::k_angular(model),
                    n_functions, c, model.angular_n_stride, radial + lane);
                harmonics<Shape::l_max, Real>(vector.x, vector.y, vector.z,
                                              [&](int lm, Real value) { angular[lm * row + lane] = value; });
            });
            for_lanes(member, Shape::n_lm * n_functions, [&](int place) {
                const Real *g = radial + place % n_functions * row;
                const Real *b = angular + place / n_functions * row;
                Real sum = sums[place];
                for (int lane = 0; lane < count; ++lane) {
                    sum += g[lane] * b[lane];
                }
                sums[place] = sum;
            });
        }
        for_lanes(member, Shape::n_lm * n_functions, [&](int place) { states.sums(i, place) = sums[place]; });
    }

    KOKKOS_INLINE_FUNCTION void angular_descriptors(const Member &member, int, const Real *sums,
                                                    Real *descriptors) const {
        const int n_functions = Shape::n_angular(model);
        for_lanes(member, n_functions, [&](int n) {
            const auto sum = [&](int lm) { return sums[lm * n_functions + n]; };
            for (int l = 1; l <= Shape::l_max; ++l) {
                Real total(0);
                for (int lm = l * l - 1; lm < (l + 1) * (l + 1) - 1; ++lm) {
                    total += static_cast<Real>(model.tables->weight[lm]) * sum(lm) * sum(lm);
                }
                descriptors[model.n_radial + (l - 1) * n_functions + n] = total;
            }
            for_invariants<Shape::l_max>(
                model,
                [&](int at, const auto &monomials) { descriptors[at + n] = invariant<Real, Real>(monomials, sum); },
                [&](int at) {
                    const Real square = sum(0) * sum(0) + sum(1) * sum(1) + sum(2) * sum(2);
                    descriptors[at + n] = static_cast<Real>(coefficient_1111) * square * square;
                });
        });
        if (model.has_temperature) {
            Kokkos::single(Kokkos::PerThread(member),
                           [&]() { descriptors[model.n_descriptors - 1] = static_cast<Real>(model.temperature); });
        }
    }

    KOKKOS_INLINE_FUNCTION void infer(const Member &member, int i, int type, const Real *descriptors, Real *slopes,
                                      double &energy, double &charge) const {
        const Real *weights = model.weights + type * model.network_stride;
        const Real *biases = model.biases + type * model.neuron_stride;
        const Real *outputs = model.outputs + type * 2 * model.neuron_stride;
        Real *charge_slopes = slopes + model.n_neurons;
        Real energy_sum(0), charge_sum(0);
        Kokkos::parallel_reduce(
            Kokkos::ThreadVectorRange(member, model.n_neurons),
            [&](int v, Real &sum) {
                Real input = -biases[v];
                for (int d = 0; d < model.n_descriptors; ++d) {
                    input += descriptors[d] * weights[d * model.neuron_stride + v];
                }
                const Real h = Kokkos::tanh(input);
                sum += outputs[v] * h;
                slopes[v] = outputs[v] * (Real(1) - h * h);
                charge_slopes[v] = h;
            },
            energy_sum);
        if (model.has_charges) {
            const Real *charge_outputs = outputs + model.neuron_stride;
            Kokkos::parallel_reduce(
                Kokkos::ThreadVectorRange(member, model.n_neurons),
                [&](int v, Real &sum) {
                    const Real h = charge_slopes[v];
                    sum += charge_outputs[v] * h;
                    charge_slopes[v] = charge_outputs[v] * (Real(1) - h * h);
                },
                charge_sum);
        }
        // The sums above do not make the lanes wait for what the others wrote; a loop does.
        for_lanes(member, 1, [](int) {});
        energy = static_cast<double>(energy_sum) + model.energy_shift[type];
        charge = static_cast<double>(charge_sum);
        store_derivatives(member, i, type, slopes, charge_slopes);
    }

    KOKKOS_INLINE_FUNCTION void store_derivatives(const Member &member, int i, int type, const Real *energy_slopes,
                                                  const Real *charge_slopes) const {
        const Real *weights =
            model.transposed_weights + static_cast<std::size_t>(type) * model.n_neurons * model.descriptor_stride;
        for_lanes(member, model.n_descriptors, [&](int d) {
            Real energy(0), charge(0);
            for (int v = 0; v < model.n_neurons; ++v) {
                const Real w = weights[v * model.descriptor_stride + d];
                energy += w * energy_slopes[v];
                if (model.has_charges) {
                    charge += w * charge_slopes[v];
                }
            }
            states.derivatives(i, d) = energy;
            if (model.has_charges) {
                states.derivatives(i, model.n_descriptors + d) = charge;
            }
        });
    }

    KOKKOS_INLINE_FUNCTION double repulsion_energy(const Member &member, int i, int type, int n_slots) const {
        double total = 0.0;
        if (model.zbl == nullptr) {
            return total;
        }
        Kokkos::parallel_reduce(
            Kokkos::ThreadVectorRange(member, n_slots),
            [&](int slot, double &sum) {
                const PairVector<Real> vector(atoms.packed, i, states.near(i, slot));
                const int pair = type * model.n_types + vector.type;
                if (is_repelled(model, pair, vector.distance)) {
                    double energy, slope;
                    zbl_repulsion(model.zbl[pair], vector.distance, energy, slope);
                    sum += 0.5 * energy;
                }
            },
            total);
        return total;
    }
};

}  // namespace qnep
