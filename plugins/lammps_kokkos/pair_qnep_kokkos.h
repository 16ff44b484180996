// pair_style qnep/kk: neuroevolution potentials with and without charges, evaluated by KOKKOS.
#pragma once

#include <memory>
#include <vector>

#include "device_evaluation.h"
#include "device_reciprocal_sum.h"

#include "kokkos_base.h"
#include "kokkos_type.h"
#include "pair_qnep.h"

namespace LAMMPS_NS {

/// Models and checks are those of the host style; positions, neighbour lists, charges, forces and the mesh of a
/// reciprocal sum stay on the device. `kspace ewald`, `direct` and `kspace_on host` take positions, charges and forces
/// to the host and back in each step.
template <class DeviceType>
class PairQNEPKokkos : public PairQNEP, public KokkosBase {
public:
    typedef DeviceType device_type;  // the name that LAMMPS looks for

    explicit PairQNEPKokkos(LAMMPS *lammps);

    void settings(int narg, char **arg) override;
    void coeff(int narg, char **arg) override;
    void init_style() override;
    void compute(int eflag, int vflag) override;
    double memory_usage() override;
    const std::vector<double> &deviations() override;
    const std::vector<double> &potentials() override;
    const std::vector<double> &grades() override;
    const std::vector<double> &born_effective_charges() override;

    // Of the charges; on the host (as for the host style) or on the device, as LAMMPS chooses.
    int pack_forward_comm(int n, int *atoms, double *buffer, int pbc_flag, int *pbc) override;
    void unpack_forward_comm(int n, int first, double *buffer) override;
    int pack_forward_comm_kokkos(int n, DAT::tdual_int_1d atoms, DAT::tdual_xfloat_1d &buffer, int pbc_flag,
                                 int *pbc) override;
    void unpack_forward_comm_kokkos(int n, int first, DAT::tdual_xfloat_1d &buffer) override;

protected:
    bool has_evaluated_positions() const override;
    const tagint *ids() override;

private:
    using Vector = Kokkos::View<double *, DeviceType>;
    using HostVector = typename Vector::HostMirror;

    struct DeviceModel {
        std::unique_ptr<qnep::DeviceEvaluation<DeviceType>> evaluation;
        // One of them, for models with charges.
        std::unique_ptr<DeviceReciprocalSum<DeviceType>> device_sum;
        std::unique_ptr<qnep::ReciprocalSum> host_sum;
        Kokkos::View<int *, DeviceType> type_map;  // [n_types + 1]
    };

    /// What a model gives for the atoms of this process, beside the arrays of results_.
    struct Totals {
        double site_energy = 0.0, coulomb_energy = 0.0;  // eV
        double virial[6] = {};                           // eV
        double n_atoms = 0.0;                            // of all processes
        double square_charge = 0.0;                      // e^2, of all processes
        double mesh_force[3] = {};                       // eV/Å, this process's
    };

    void make_device_models();
    void reserve();
    void clear(bool wants_atom_virials);
    qnep::DeviceAtoms<DeviceType> atoms_of(const DeviceModel &model);
    /// With `responds` the charge response of the model is asked between its charges and its forces.
    Totals evaluate(std::size_t k, bool wants_virial, bool wants_atom_virials, bool responds);
    /// Shifts the charges to the total charge; false if all are zero.
    bool neutralize(const qnep::DeviceAtoms<DeviceType> &atoms, const qnep::NetworkSums &sums, Totals &totals);
    void add_reciprocal_sum(const DeviceModel &model, bool wants_virial, bool wants_atom_virials, Totals &totals);
    void add_reciprocal_sum_of_host(const DeviceModel &model, bool wants_virial, bool wants_atom_virials,
                                    Totals &totals);
    void add_charge_response(const DistributedModel::ChargeResponse &response);
    /// Derivatives without their mean and forces without the net force of the mesh.
    void remove_means(const qnep::DeviceAtoms<DeviceType> &atoms, const Totals &totals);
    void share_charges();
    void store_charges(const qnep::DeviceAtoms<DeviceType> &atoms);
    void add_forces();
    void add_totals(const Totals &totals);
    void add_atom_energies();
    void add_atom_virials();
    /// Takes to the host what others ask of the model that drives the run, before another model is evaluated.
    void keep_driving_results();
    std::vector<int> elements_of_driving_model();

    bool has_mesh_on_device() const { return mesh_on_device_ && settings_.kspace == KSpaceMethod::pppm; }

    std::vector<DeviceModel> device_models_;
    bool mesh_on_device_ = true;  // keyword kspace_on
    qnep::DeviceResults<DeviceType> results_;
    Kokkos::View<double *[4], Kokkos::LayoutRight, DeviceType> packed_;  // [n_total]
    Kokkos::DualView<double *, DeviceType> charges_;                     // [n_total], e
    Vector charge_derivatives_;                                          // [n_owned], V
    qnep::DeviceAtoms<DeviceType> atoms_;                                // of the last evaluation

    // Of the model that drives the run, on the host; see keep_driving_results.
    bool has_driving_results_ = false;
    std::vector<double> driving_potentials_, driving_charges_;  // [n_owned]
    std::vector<double> driving_forces_;                        // [n_total][3], as in results_
};

}  // namespace LAMMPS_NS
