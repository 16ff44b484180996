// The passes of one model on the device, for arrays that belong to the caller. Knows nothing of LAMMPS.
#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <string>

#include <Kokkos_Core.hpp>

#include "device_atoms.h"
#include "force_pass.h"
#include "network_pass.h"

namespace qnep {

/// Arrays on the device that an evaluation adds to; rows beyond the atoms of now are not looked at.
template <class Device>
struct DeviceResults {
    Kokkos::View<double *, Device> site_energies;     // [n_owned], eV, set
    Kokkos::View<double *, Device> coulomb_energies;  // [n_owned], eV
    Kokkos::View<double *, Device> potentials;        // [n_owned], V
    typename ForceScatter<Device>::Forces forces;     // [n_total][3], eV/Å
    typename ForceScatter<Device>::Virials virials;   // [n_total][9], eV; empty: not wanted
};

/// What to say of an allocation that failed; per_atom: bytes.
inline InputError too_little_memory(std::size_t per_atom, std::size_t n_atoms, const std::exception &failure) {
    return InputError("wanted " + std::to_string(per_atom) + " bytes for each of " + std::to_string(n_atoms) +
                      " atoms on the device besides what LAMMPS needs, and got: " + failure.what() +
                      " (more devices, precision mixed or a thinner neighbor skin need less on each)");
}

/// One model in one precision. Positions and all sums over atoms are double in both; with `float` the functions of a
/// pair, the descriptor and the network are single.
template <class Device>
class DeviceEvaluation {
public:
    using Vector = Kokkos::View<double *, Device>;
    using Tensors = typename ForceScatter<Device>::Virials;
    using Rows = Kokkos::View<double **, Kokkos::LayoutRight, Device>;

    virtual ~DeviceEvaluation() = default;

    /// Site energies and raw charges [n_owned], set; the sums are those of this process. Throws CoincidentAtoms for
    /// atoms at one place, and InputError for a device without enough memory.
    virtual NetworkSums network_pass(const DeviceAtoms<Device> &atoms, const Vector &site_energies,
                                     const Vector &charges) = 0;
    /// Real-space Coulomb sum for charges [n_total]. Must follow network_pass.
    virtual ForceSums coulomb_pass(const DeviceAtoms<Device> &atoms, const Vector &charges,
                                   const DeviceResults<Device> &results) = 0;
    /// Forces through the network; charge_derivatives: [n_owned], V, empty for a model without charges.
    virtual ForceSums force_pass(const DeviceAtoms<Device> &atoms, const Vector &charge_derivatives,
                                 const DeviceResults<Device> &results) = 0;
    /// Born effective charges without their diagonal part, as Potential::born_effective_charges; born: [n_total][9],
    /// e, added to. Must follow network_pass.
    virtual void born_pass(const DeviceAtoms<Device> &atoms, const Tensors &born) = 0;
    /// Unscaled descriptors, [n_owned][n_descriptors]; rows of atoms without a model are left as they are.
    virtual void descriptors(const DeviceAtoms<Device> &atoms, const Rows &values) = 0;
    /// Memory on the device that does not belong to the caller.
    virtual std::size_t bytes() const = 0;
};

/// temperature: K, for temperature models.
template <class Device>
std::unique_ptr<DeviceEvaluation<Device>> make_device_evaluation(const Model &model, Precision precision,
                                                                 double temperature);

}  // namespace qnep
