// A cell with electrodes at constant potential or charge, joined with a learned potential.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "charge_equilibration.h"
#include "charge_parameters.h"
#include "electrode_membership.h"

namespace qnep {

struct Electrode {
    std::string name;
    bool holds_charge = false;
    double value = 0.0;  // V, or e if the charge is held
};

/// How electrode charges are joined with the potential; see the documentation's page on electrodes.
enum class ElectrodeScheme {
    induced,       // charges are added to those of a qNEP; Omega = E_qNEP + W(potentials) - W(equal potentials)
    equilibrated,  // all atoms carry equilibrated charges; the potential was trained on what they leave of the energy
};

struct ElectrodeOptions {
    ElectrodeScheme scheme = ElectrodeScheme::induced;
    std::vector<std::string> elements;         // [n_types]
    std::vector<ChargeParameters> parameters;  // [n_types]; induced: only the hardness of the metal is used
    MembershipOptions membership;
    std::vector<Electrode> electrodes;
    double total_charge = 0.0;  // e
    double alpha = 0.0;         // 1/Å, of the model; induced only, the other scheme chooses its own
    std::string kspace = "auto";
    double accuracy = 1e-4;
    int n_threads = 1;
    int slab_axis = 2;  // -1: periodic in all directions
    double tolerance = 1e-6;
    int max_iterations = 200;
    WorkShare share;
};

/// Results are those of all processes together.
struct ElectrodeResult {
    double energy = 0.0;                       // eV, to be added to that of the potential
    std::vector<double> forces;                // [n][3], eV/Å, to be added
    std::array<double, 9> virial{};            // row-major, eV, to be added
    std::vector<double> charges;               // [n], e; induced: to be added to those of the model
    std::vector<double> electrode_charges;     // [n_electrodes], e
    std::vector<double> electrode_potentials;  // [n_electrodes], V
    /// e/V: half the difference of the charges of the last and the first electrode over their voltage, 0 without one.
    /// Induced: of the charges that the voltage adds, which is the differential capacitance at fixed atoms.
    /// Equilibrated: of the whole charges.
    double capacitance = 0.0;
    int n_iterations = 0;
    double error_bound = 0.0;     // e
    int worst_atom = -1;          // with the largest charge on an electrode
    double largest_charge = 0.0;  // e, of that atom, with its sign
};

/// One step: `set_atoms`, then `respond` in the induced scheme or `equilibrate` in the other; then `result`.
/// With a share, all processes call together with the same arrays.
class ElectrodeCell {
public:
    /// Throws InputError for settings that do not fit together.
    explicit ElectrodeCell(const ElectrodeOptions &options);

    void set_value(int electrode, double value);  // V or e
    const std::vector<Electrode> &electrodes() const { return options_.electrodes; }

    /// positions: [n][3], Å, from the cell's origin, anywhere in space; types and groups: [n], see ElectrodeMembership.
    /// Throws InputError: no atoms in an electrode, electrodes that touch, too little vacuum along the slab axis.
    void set_atoms(int n, const double *positions, const Cell &cell, const int *types, const int *groups);

    /// From the model's charges [n] the change of all atoms' potentials [n], V, by which the caller multiplies the
    /// gradients of these charges. Throws ConvergenceError.
    const std::vector<double> &respond(const double *charges);
    void equilibrate();
    const ElectrodeResult &result() const { return result_; }

    double metal(int i) const;  // weight of an atom in all electrodes together, 0 ... 1

    /// Charges of the last steps, for a warm start after a restart; [n_solutions][n] of either linear system.
    std::array<ChargeHistory, 2> &histories() { return histories_; }
    std::string describe() const;  // the reciprocal sum

private:
    struct Fields {
        double energy = 0.0;
        std::vector<double> potentials, forces;
        std::array<double, 9> virial{};
    };

    void check_settings() const;
    void check_held_charges() const;
    void unwrap(const double *positions);
    void set_slab();
    void check_memberships();
    Fields fields(const std::vector<double> &charges, bool wants_forces);
    void add_slab(Fields &fields, const std::vector<double> &charges) const;
    struct InducedSystem {
        std::vector<double> positions, hardnesses, metals;  // [n_active][3], [n_active], [n_active]
        std::vector<double> sides;                          // [n_electrodes][n_active]
    };
    void find_active();
    InducedSystem induced_system() const;
    EquilibrationResult solve_induced(const InducedSystem &system, bool is_biased, const std::vector<double> &guess,
                                      KnownGradient known);
    std::vector<double> account_for(const InducedSystem &system, const EquilibrationResult &solved, bool is_biased,
                                    std::vector<double> &weight_derivatives);
    void find_largest_charge(const std::vector<double> &charges);
    std::unique_ptr<ChargeEquilibration> make_solver(double alpha, double cutoff) const;
    std::string kspace_for(double alpha) const;

    ElectrodeOptions options_;
    ElectrodeMembership membership_;
    int n_ = 0;
    Cell cell_{};
    std::vector<double> positions_, fractions_;  // unwrapped
    std::vector<int> types_;
    Memberships weights_;
    PairSearch contacts_;
    std::vector<double> contact_positions_;
    std::array<double, 3> normal_{};
    std::vector<double> heights_;
    double volume_ = 0.0;

    int n_prepared_ = -1;
    std::unique_ptr<ReciprocalSum> reciprocal_;
    std::unique_ptr<ChargeEquilibration> solver_;
    std::unique_ptr<PairSearch> pairs_;
    std::array<ChargeHistory, 2> histories_;  // induced: connected, what the voltage adds; else the first
    std::vector<int> active_;                 // induced: atoms with some weight, ascending
    ElectrodeResult result_;
    std::vector<double> response_;
};

}  // namespace qnep
