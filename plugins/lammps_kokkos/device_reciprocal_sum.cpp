#include "device_reciprocal_sum.h"

#include <cmath>
#include <type_traits>
#include <utility>

#include "atom_kokkos.h"
#include "force.h"
#include "kspace.h"
#include "lammps.h"

namespace LAMMPS_NS {

namespace {

/// Names members of KSpace that only its children may name.
struct ChargeSums : KSpace {
    static constexpr double KSpace::*charge = &ChargeSums::qsum;
    static constexpr double KSpace::*square = &ChargeSums::qsqsum;
};

/// Puts other arrays in the place of those of the atoms while in scope.
class DeviceLoan {
public:
    DeviceLoan(LAMMPS *lammps, DAT::tdual_float_1d &charges, DAT::tdual_f_array &forces, Pair *pair, KSpace *kspace):
        atom_(static_cast<AtomKokkos *>(lammps->atom)), force_(lammps->force), charges_(charges), forces_(forces),
        pair_(force_->pair), kspace_(force_->kspace), host_charges_(atom_->q) {
        exchange();
        atom_->q = atom_->k_q.h_view.data();
        force_->pair = pair;
        force_->kspace = kspace;
    }
    ~DeviceLoan() {
        exchange();
        atom_->q = host_charges_;
        force_->pair = pair_;
        force_->kspace = kspace_;
    }
    DeviceLoan(const DeviceLoan &) = delete;
    DeviceLoan &operator=(const DeviceLoan &) = delete;

private:
    void exchange() {
        std::swap(atom_->k_q, charges_);
        std::swap(atom_->k_f, forces_);
    }

    AtomKokkos *atom_;
    Force *force_;
    DAT::tdual_float_1d &charges_;
    DAT::tdual_f_array &forces_;
    Pair *pair_;
    KSpace *kspace_;
    double *host_charges_;
};

}  // namespace

// Free functions, because nvcc does not compile device code inside private members.

template <class Device, class To>
void copy_without_zeros(int n, double smallest, const Kokkos::View<double *, Device> &from, const To &to) {
    Kokkos::parallel_for(
        "qnep:lend", Kokkos::RangePolicy<Device>(0, n),
        KOKKOS_LAMBDA(int i) { to(i) = Kokkos::fabs(from(i)) < smallest ? smallest : from(i); });
}

/// Adds the energies of LAMMPS without what it subtracted from them, and the potentials that follow; returns their sum.
template <class Device, class Charges, class Energies>
double add_energies(int n, double per_square, double per_charge, const Charges &charges, const Energies &energies,
                    const qnep::DeviceResults<Device> &results) {
    const auto site_energies = results.coulomb_energies;
    const auto potentials = results.potentials;
    double total = 0.0;
    Kokkos::parallel_reduce(
        "qnep:mesh_energies", Kokkos::RangePolicy<Device>(0, n),
        KOKKOS_LAMBDA(int i, double &sum) {
            const double site_energy = energies(i) + (per_square * charges(i) + per_charge) * charges(i);
            site_energies(i) += site_energy;
            potentials(i) += 2.0 * site_energy / charges(i);
            sum += site_energy;
        },
        total);
    return total;
}

template <class Device, class From>
double add_forces_along(int n, int d, const From &from, const qnep::DeviceResults<Device> &results) {
    const auto forces = results.forces;
    double total = 0.0;
    Kokkos::parallel_reduce(
        "qnep:mesh_forces", Kokkos::RangePolicy<Device>(0, n),
        KOKKOS_LAMBDA(int i, double &sum) {
            forces(i, d) += from(i, d);
            sum += from(i, d);
        },
        total);
    return total;
}

template <class DeviceType>
std::string DeviceReciprocalSum<DeviceType>::style() const {
    return std::is_same_v<DeviceType, LMPDeviceType> ? "pppm/kk/device" : "pppm/kk/host";
}

template <class DeviceType>
void DeviceReciprocalSum<DeviceType>::set_charge_sums() {
    solver_.get()->*ChargeSums::charge = charge_;
    solver_.get()->*ChargeSums::square = square_;
}

/// The style on the device has no function for it, so another one is made with the same mesh. The loan is under way.
template <class DeviceType>
void DeviceReciprocalSum<DeviceType>::spread_mesh() {
    const QNEPSettings chosen = settings_;
    const std::array<double, 3> lengths = lengths_at_start_;
    settings_.mesh = {solver_->nx_pppm, solver_->ny_pppm, solver_->nz_pppm};
    settings_.mesh_order = solver_->order;
    create_solver();
    static_cast<AtomKokkos *>(lammps_->atom)->k_q.template sync<LMPHostType>();
    lammps_->force->kspace = solver_.get();
    start_solver();
    settings_ = chosen;
    lengths_at_start_ = lengths;
}

/// The sum of charges on the host is asked for by a solver that starts, and by pppm/kk itself when atoms have come or
/// gone.
template <class DeviceType>
void DeviceReciprocalSum<DeviceType>::lend_charges(int n, const Vector &charges) {
    const auto n_max = static_cast<std::size_t>(lammps_->atom->nmax);
    if (lent_charges_.extent(0) != n_max) {
        lent_charges_ = DAT::tdual_float_1d("qnep:lent_charges", n_max);
        lent_forces_ = DAT::tdual_f_array("qnep:lent_forces", n_max);
    }
    copy_without_zeros<DeviceType>(n, tiny_charge, charges, lent_charges_.template view<DeviceType>());
    lent_charges_.template modify<DeviceType>();
    if (!is_ready_ || lammps_->atom->natoms != n_atoms_) {
        lent_charges_.template sync<LMPHostType>();
    }
    n_atoms_ = lammps_->atom->natoms;
    Kokkos::deep_copy(lent_forces_.template view<DeviceType>(), 0.0);
    lent_forces_.template modify<DeviceType>();
}

template <class DeviceType>
typename DeviceReciprocalSum<DeviceType>::Sums
DeviceReciprocalSum<DeviceType>::compute_on_device(int n, const Vector &charges, double charge, double square,
                                                   const qnep::DeviceResults<DeviceType> &results, bool wants_virial,
                                                   bool wants_atom_virials) {
    charge_ = charge;
    square_ = square;
    require_solver();
    lend_charges(n, charges);
    {
        const DeviceLoan loan(lammps_, lent_charges_, lent_forces_, pair_.get(), solver_.get());
        prepare_solver();
        const int vflag = (wants_virial ? VIRIAL_PAIR : VIRIAL_NONE) | (wants_atom_virials ? VIRIAL_ATOM : VIRIAL_NONE);
        solver_->compute(ENERGY_ATOM, vflag);
    }
    Sums sums;
    const Kokkos::View<const double *, Kokkos::HostSpace> host_energies(solver_->eatom, n);
    const auto energies = Kokkos::create_mirror_view_and_copy(typename DeviceType::memory_space(), host_energies);
    sums.energy = add_energies<DeviceType>(n, own_gaussian(), background(), lent_charges_.template view<DeviceType>(),
                                           energies, results);
    for (int d = 0; d < 3; ++d) {
        sums.force[d] = add_forces_along<DeviceType>(n, d, lent_forces_.template view<DeviceType>(), results);
    }
    for (int c = 0; c < 6 && wants_virial; ++c) {
        sums.virial[c] = solver_->virial[c];
    }
    if (wants_atom_virials) {
        add_atom_virials(n, results);
    }
    return sums;
}

template <class DeviceType>
void DeviceReciprocalSum<DeviceType>::add_atom_virials(int n, const qnep::DeviceResults<DeviceType> &results) const {
    static constexpr int voigt_of[9] = {0, 3, 4, 3, 1, 5, 4, 5, 2};  // row-major <- xx yy zz xy xz yz
    const auto rows = Kokkos::subview(results.virials, std::make_pair(0, n), Kokkos::ALL);
    const auto virials = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), rows);
    for (int i = 0; i < n; ++i) {
        for (int c = 0; c < 9; ++c) {
            virials(i, c) += solver_->vatom[i][voigt_of[c]];
        }
    }
    Kokkos::deep_copy(rows, virials);
}

template class DeviceReciprocalSum<LMPDeviceType>;
#ifdef LMP_KOKKOS_GPU
template class DeviceReciprocalSum<LMPHostType>;
#endif

}  // namespace LAMMPS_NS
