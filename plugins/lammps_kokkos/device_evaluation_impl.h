// Included by the two files that compile the passes in one precision each.
#pragma once

#include <string>

#include "device_evaluation.h"

namespace qnep {

template <class Device, typename Real>
class DeviceEvaluationOf : public DeviceEvaluation<Device> {
public:
    using typename DeviceEvaluation<Device>::Vector;
    using typename DeviceEvaluation<Device>::Tensors;
    using typename DeviceEvaluation<Device>::Rows;

    DeviceEvaluationOf(const Model &model, double temperature):
        model_(model, temperature), coincidence_("qnep:pair"), token_(model.token()),
        sqrt_epsilon_(model.has_charges() ? model.parameters[model.sqrt_epsilon_offset()] : 0.0) {}

    NetworkSums network_pass(const DeviceAtoms<Device> &atoms, const Vector &site_energies,
                             const Vector &charges) override {
        return describe(atoms, site_energies, charges, Rows());
    }

    ForceSums coulomb_pass(const DeviceAtoms<Device> &atoms, const Vector &charges,
                           const DeviceResults<Device> &results) override {
        CoulombPass<Device, Real> pass;
        pass.charges = charges;
        pass.energies = results.coulomb_energies;
        pass.potentials = results.potentials;
        return scatter_forces(pass, atoms, results);
    }

    ForceSums force_pass(const DeviceAtoms<Device> &atoms, const Vector &charge_derivatives,
                         const DeviceResults<Device> &results) override {
        ForceSums sums;
        with_shape(model_.view(), [&](auto shape) {
            ForcePass<Device, Real, decltype(shape)> pass;
            pass.charge_derivatives = charge_derivatives;
            sums = scatter_forces(pass, atoms, results);
        });
        return sums;
    }

    void born_pass(const DeviceAtoms<Device> &atoms, const Tensors &born) override {
        if (!model_.view().has_charges) {
            throw InputError("Born effective charges need a model with charges, got " + token_);
        }
        with_shape(model_.view(), [&](auto shape) {
            BornPass<Device, Real, decltype(shape)> pass;
            pass.model = model_.view();
            pass.atoms = atoms;
            pass.states = states_;
            pass.scale = 0.5 * sqrt_epsilon_;
            pass.born = Kokkos::Experimental::create_scatter_view(born);
            const auto policy = policy_for(pass, atoms.n_lists);  // sets a member of the pass
            Kokkos::parallel_for("qnep:born", policy, pass);
            auto sum = born;
            Kokkos::Experimental::contribute(sum, pass.born);
        });
    }

    void descriptors(const DeviceAtoms<Device> &atoms, const Rows &values) override {
        const Vector unused_energies(unset("qnep:unused"), atoms.n_owned);
        const Vector unused_charges(unset("qnep:unused"), atoms.n_owned);
        describe(atoms, unused_energies, unused_charges, values);
    }

    std::size_t bytes() const override {
        return states_.near.span() * sizeof(int) + states_.n_near.span() * sizeof(int) +
               (states_.sums.span() + states_.derivatives.span()) * sizeof(Real);
    }

private:
    NetworkSums describe(const DeviceAtoms<Device> &atoms, const Vector &site_energies, const Vector &charges,
                         const Rows &described) {
        reserve(atoms);
        Kokkos::deep_copy(coincidence_, -1);
        NetworkSums sums;
        with_shape(model_.view(), [&](auto shape) {
            NetworkPass<Device, Real, decltype(shape)> pass;
            pass.model = model_.view();
            pass.atoms = atoms;
            pass.states = states_;
            pass.energies = site_energies;
            pass.charges = charges;
            pass.coincidence = coincidence_;
            pass.described = described;
            launch(pass, atoms.n_lists, sums);
        });
        long long pair = -1;
        Kokkos::deep_copy(pair, coincidence_);
        if (pair >= 0) {
            throw CoincidentAtoms(static_cast<int>(pair / atoms.n_total), static_cast<int>(pair % atoms.n_total));
        }
        return sums;
    }

    // Room for the atoms of now and a little more, so that the next exchange of atoms asks for no memory.
    void reserve(const DeviceAtoms<Device> &atoms) {
        const auto n_slots = static_cast<std::size_t>(atoms.neighbors.extent(1));
        if (states_.near.extent(0) >= static_cast<std::size_t>(atoms.n_owned) && states_.near.extent(1) >= n_slots) {
            return;
        }
        const std::size_t n_rows = atoms.n_owned + static_cast<std::size_t>(atoms.n_owned) / 16;
        const DeviceModelView<Real> &model = model_.view();
        const std::size_t n_sums = static_cast<std::size_t>(n_harmonics(model.l_max)) * model.n_angular;
        const std::size_t n_derivatives = static_cast<std::size_t>(model.has_charges ? 2 : 1) * model.n_descriptors;
        states_ = {};
        try {
            states_.near = decltype(states_.near)(unset("qnep:near"), n_rows, n_slots);
            states_.n_near = decltype(states_.n_near)(unset("qnep:n_near"), n_rows);
            states_.sums = decltype(states_.sums)(unset("qnep:sums"), n_rows, n_sums);
            states_.derivatives = decltype(states_.derivatives)(unset("qnep:derivatives"), n_rows, n_derivatives);
        } catch (const std::exception &failure) {
            const std::size_t per_atom = (n_slots + 2) * sizeof(int) + (n_sums + n_derivatives) * sizeof(Real);
            throw too_little_memory(per_atom, n_rows, failure);
        }
    }

    static auto unset(const std::string &label) { return Kokkos::view_alloc(label, Kokkos::WithoutInitializing); }

    template <class Pass>
    ForceSums scatter_forces(Pass &pass, const DeviceAtoms<Device> &atoms, const DeviceResults<Device> &results) {
        pass.model = model_.view();
        pass.atoms = atoms;
        pass.states = states_;
        pass.scatter.forces = Kokkos::Experimental::create_scatter_view(results.forces);
        pass.scatter.wants_atom_virials = results.virials.extent(0) > 0;
        if (pass.scatter.wants_atom_virials) {
            pass.scatter.virials = Kokkos::Experimental::create_scatter_view(results.virials);
        }
        ForceSums sums;
        launch(pass, atoms.n_lists, sums);
        auto forces = results.forces;
        Kokkos::Experimental::contribute(forces, pass.scatter.forces);
        if (pass.scatter.wants_atom_virials) {
            auto virials = results.virials;
            Kokkos::Experimental::contribute(virials, pass.scatter.virials);
        }
        return sums;
    }

    template <class Pass, class Sums>
    static void launch(Pass &pass, int n_atoms, Sums &sums) {
        const auto policy = policy_for(pass, n_atoms);  // sets a member of the pass
        Kokkos::parallel_reduce("qnep", policy, pass, sums);
    }

    template <class Pass>
    static typename Pass::Policy policy_for(Pass &pass, int n_atoms) {
        constexpr bool is_on_host =
            Kokkos::SpaceAccessibility<Kokkos::HostSpace, typename Device::memory_space>::accessible;
        const std::size_t bytes = pass.scratch_bytes() + 64;  // more for its alignment
        // On a device a warp for each atom, and as many atoms in a team as the fast scratch memory of every device
        // holds, of which Kokkos takes a little for sums.
        constexpr std::size_t fast_scratch = is_on_host ? 32 * 1024 : 48 * 1024 - 256;
        constexpr int lanes = is_on_host ? 1 : 32;
        int team = is_on_host ? 1 : 4;
        while (team > 1 && team * bytes > fast_scratch) {
            team /= 2;
        }
        pass.scratch_level = bytes > fast_scratch ? 1 : 0;
        typename Pass::Policy policy((n_atoms + team - 1) / team, team, lanes);
        policy.set_scratch_size(pass.scratch_level, Kokkos::PerThread(bytes));
        return policy;
    }

    DeviceModel<Device, Real> model_;
    AtomStates<Device, Real> states_;
    Kokkos::View<long long, Device> coincidence_;
    std::string token_;
    double sqrt_epsilon_;
};

template <class Device, typename Real>
std::unique_ptr<DeviceEvaluation<Device>> make_evaluation_of(const Model &model, double temperature) {
    return std::make_unique<DeviceEvaluationOf<Device, Real>>(model, temperature);
}

}  // namespace qnep
