// The reciprocal sum by the particle mesh of LAMMPS that works on the device.
#pragma once

#include "device_evaluation.h"

#include "kokkos_type.h"
#include "kspace_reciprocal_sum.h"

namespace LAMMPS_NS {

/// Owns a `pppm/kk` and lends it charges and forces that stay on the device. Only energies of the atoms, which LAMMPS
/// takes to the host in any case, and per-atom virials come back through it. Mesh and sums are those of
/// KSpaceReciprocalSum.
template <class DeviceType>
class DeviceReciprocalSum : public KSpaceReciprocalSum {
public:
    using Vector = Kokkos::View<double *, DeviceType>;

    struct Sums {
        double energy = 0.0;    // eV, this rank's share
        double force[3] = {};   // eV/Å, this rank's share
        double virial[6] = {};  // eV, of the whole system: xx yy zz xy xz yz
    };

    using KSpaceReciprocalSum::KSpaceReciprocalSum;

    /// charges: [n], e, with `charge` and `square` their sums over all ranks; results [n], added to.
    Sums compute_on_device(int n, const Vector &charges, double charge, double square,
                           const qnep::DeviceResults<DeviceType> &results, bool wants_virial, bool wants_atom_virials);

protected:
    std::string style() const override;
    void set_charge_sums() override;
    void spread_mesh() override;

private:
    void lend_charges(int n, const Vector &charges);
    void add_atom_virials(int n, const qnep::DeviceResults<DeviceType> &results) const;

    double charge_ = 0.0, square_ = 0.0;  // of the last call
    bigint n_atoms_ = -1;                 // of all ranks, in the last call
    DAT::tdual_float_1d lent_charges_;    // [nmax]
    DAT::tdual_f_array lent_forces_;      // [nmax][3]
};

}  // namespace LAMMPS_NS
