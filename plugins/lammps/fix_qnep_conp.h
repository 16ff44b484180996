// fix qnep/conp: electrodes at constant potential or charge.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "conp_atoms.h"
#include "conp_settings.h"
#include "electrodes.h"
#include "fix.h"

namespace LAMMPS_NS {

class PairQNEP;

/// Gathers all atoms on all ranks before the forces, solves the charges with sums shared over the ranks (in the induced
/// scheme while `pair_style qnep` waits with its charges), and adds forces, virial and charges after the forces.
class FixQNEPConp : public Fix {
public:
    FixQNEPConp(LAMMPS *lammps, int narg, char **arg);
    ~FixQNEPConp() override;
    int setmask() override;
    void init() override;
    void setup_pre_force(int vflag) override;
    void pre_force(int vflag) override;
    void min_pre_force(int vflag) override;
    void setup(int vflag) override;
    void min_setup(int vflag) override;
    void post_force(int vflag) override;
    void min_post_force(int vflag) override;
    double compute_scalar() override;
    double compute_vector(int component) override;
    void write_restart(FILE *file) override;
    void restart(char *buffer) override;
    double memory_usage() override;

private:
    bool is_induced() const { return settings_.options.scheme == qnep::ElectrodeScheme::induced; }
    void check_system();
    void set_values();
    void respond(const double *charges, double *charge_derivatives);
    /// Turns exceptions of the core, which all ranks see together, into LAMMPS errors; saves the state during a run.
    void without_exceptions(const std::function<void()> &action);
    std::string save_state(const std::string &reason);
    void warn_of_large_charges();
    void store_charges();

    ConpSettings settings_;
    ConpAtoms atoms_;
    std::unique_ptr<qnep::ElectrodeCell> cell_;
    // What the pair style calls holds on to this only as long as the fix lives.
    std::shared_ptr<std::function<void(const double *, double *)>> response_;
    std::array<qnep::ChargeHistory, 2> restored_;
    double energy_unit_ = 1.0;
    bool has_responded_ = false;
    bool has_warned_ = false;
    bool is_saving_ = false;
    std::vector<double> all_charges_;
};

}  // namespace LAMMPS_NS
