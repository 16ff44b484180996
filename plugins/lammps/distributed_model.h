// One NEP or qNEP model evaluated on the atoms of all ranks.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "electrostatics.h"
#include "pointers.h"
#include "potential.h"
#include "qnep_settings.h"
#include "stage_timer.h"
#include "typed_neighbors.h"

namespace LAMMPS_NS {

class Domain;

/// Which optional results an evaluation makes; energies, forces and charges are always made.
struct WantedResults {
    bool virial = false;
    bool atom_virials = false;
};

/// Mean square charge, e^2, below which the long-range part is left out: its energy is below 1e-18 eV per atom.
constexpr double negligible_square_charge = 1.0e-20;

/// The solver that the settings ask for, on the atoms of all ranks.
std::unique_ptr<qnep::ReciprocalSum> make_reciprocal_sum(LAMMPS *lammps, const QNEPSettings &settings,
                                                         const qnep::Model &model);
qnep::Cell cell_of(const Domain &domain);

/// Runs the two passes of a model with the sums over all ranks between them. Units are eV, Å and e in every unit style.
/// All ranks call it together; results of the owned atoms are complete, those of ghosts must be summed back.
class DistributedModel : protected Pointers {
public:
    /// Copies values[i] of the owned atoms to their ghosts; values: [n_total].
    using ShareWithGhosts = std::function<void(double *values)>;

    DistributedModel(LAMMPS *lammps, std::string file, std::shared_ptr<const qnep::Model> model,
                     std::shared_ptr<TypedNeighbors> neighbors, const QNEPSettings &settings,
                     ShareWithGhosts share_with_ghosts);

    /// Called between charges and forces with the charges [n_owned], e, of this rank; adds to charge_derivatives
    /// [n_owned], V, the derivatives with respect to the charges of an energy that is summed elsewhere.
    using ChargeResponse = std::function<void(const double *charges, double *charge_derivatives)>;
    void set_charge_response(ChargeResponse response) { charge_response_ = std::move(response); }
    const ChargeResponse &charge_response() const { return charge_response_; }

    /// Before a run: threads of now, and a mesh chosen for the charges of the first evaluation.
    void init();
    void evaluate(const WantedResults &wanted, StageTimer &timer);
    /// Born effective charges of the last evaluation; born_charges: [n_total][9] row-major, e, set.
    void born_effective_charges(std::vector<double> &born_charges);

    /// Extrapolation grades for the positions of now; grades: [n_owned], set, zero for atoms without a model.
    void extrapolation_grades(const qnep::ActiveSet &active_set, std::vector<double> &grades);

    const std::string &file() const { return file_; }
    const qnep::Model &model() const { return *model_; }
    const TypedNeighbors &neighbors() const { return *neighbors_; }

    const std::vector<double> &site_energies() const { return site_energies_; }        // [n_owned], eV
    const std::vector<double> &coulomb_energies() const { return coulomb_energies_; }  // [n_owned], eV
    const std::vector<double> &charges() const { return charges_; }                    // [n_total], e
    const std::vector<double> &potentials() const { return potentials_; }              // [n_owned], V
    std::vector<double> &forces() { return forces_; }                                  // [n_total][3], eV/Å
    const std::vector<double> &atom_virials() const { return atom_virials_; }          // [n_total][9], eV
    const double *virial() const { return virial_; }                                   // [9], this rank's share

    double memory_usage() const;

private:
    void reset_results(const WantedResults &wanted);
    void evaluate_with_charges(const WantedResults &wanted, StageTimer &timer);
    /// Shifts the raw charges to the total charge; false if all charges are zero.
    bool neutralize();
    void add_reciprocal_sum(const WantedResults &wanted);
    /// Subtracts the mean potential and the net force of the mesh, which need a sum over the ranks each.
    void remove_means(double *charge_derivatives);
    qnep::ForceOutput force_output(const WantedResults &wanted);

    std::string file_;
    std::shared_ptr<const qnep::Model> model_;
    std::shared_ptr<TypedNeighbors> neighbors_;
    QNEPSettings settings_;
    ShareWithGhosts share_with_ghosts_;
    ChargeResponse charge_response_;
    std::unique_ptr<qnep::Potential> potential_;
    std::unique_ptr<qnep::ReciprocalSum> reciprocal_sum_;

    double n_model_atoms_ = 0.0;  // of all ranks
    double mesh_force_[3] = {};   // this rank's sum
    std::vector<double> site_energies_, coulomb_energies_, charges_, potentials_, charge_derivatives_;
    std::vector<double> forces_, atom_virials_;
    double virial_[9] = {};
};

}  // namespace LAMMPS_NS
