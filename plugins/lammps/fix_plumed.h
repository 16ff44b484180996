// fix plumed: PLUMED biases and analyses a LAMMPS run, for builds of LAMMPS that come without it.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "fix.h"
#include "fix_plumed_atoms.h"
#include "fix_plumed_input.h"
#include "fix_plumed_kernel.h"

namespace LAMMPS_NS {

class Compute;

/// `fix ID all plumed plumedfile FILE [outfile FILE] [restart yes|no] [mpi yes|no]`
///
/// Scalar: bias energy. Vector: bias energy, work (sum of the `work` components of labelled MOVINGRESTRAINT actions and
/// of METAD actions with CALC_WORK). Both in LAMMPS energy units.
/// Adds the bias to energy (fix_modify energy) and virial (fix_modify virial), both by default.
/// With a serial kernel PLUMED runs on rank 0 and sees only the atoms it asks for; a kernel that uses the MPI library
/// of LAMMPS runs on all ranks.
class FixPlumed : public Fix {
public:
    FixPlumed(LAMMPS *lammps, int narg, char **arg);
    ~FixPlumed() override;
    FixPlumed(const FixPlumed &) = delete;
    FixPlumed &operator=(const FixPlumed &) = delete;

    int setmask() override;
    void init() override;
    void setup(int vflag) override;
    void min_setup(int vflag) override;
    void post_force(int vflag) override;
    void min_post_force(int vflag) override;
    double compute_scalar() override;
    double compute_vector(int index) override;
    void reset_dt() override;
    double memory_usage() override;

private:
    struct Settings {
        std::string plumed_file;
        std::string output_file;
        bool restarts = false;
        bool wants_mpi = false;
    };
    /// What PLUMED is told about the units of LAMMPS.
    struct Units {
        double energy;  // kJ/mol
        double length;  // nm
        double time;    // ps
        double charge;  // e
        bool natural;   // Lennard-Jones units
    };
    /// State that rank 0 shares after each step.
    struct Outcome {
        double bias = 0.0;
        double work = 0.0;
        int wants_stop = 0;
        int failed = 0;
    };

    static Settings parse(LAMMPS *lammps, int narg, char **arg);
    static Units units_of(LAMMPS *lammps);
    void check_atoms() const;
    void load_kernel(const Settings &settings);
    void start_plumed(const Settings &settings);
    void introduce_run(const Settings &settings);
    void introduce_ranks();
    void read_instructions(const Settings &settings);
    void watch_work(const std::vector<QNEP::PlumedInstruction> &instructions);
    void warn_of_other_forces();
    void make_energy_computes();
    template <class Action>
    void guarded(Action action);
    void stop_with(const std::string &message);

    void forget_owners();
    bool prepare_step();
    void pass_constants();
    void pass_positions();
    void pass_energy();
    void calculate();
    void add_forces();
    void add_virial();
    double sum_work() const;
    void gather_from(const double *values, int width, std::vector<double> &all);

    Units units_;
    int n_atoms_ = 0;
    double timestep_ = 0.0;
    bool shares_mpi_ = false;
    bool runs_here_ = false;  // PLUMED lives on this rank
    bool are_indices_new_ = true;
    std::vector<QNEP::PlumedInstruction> instructions_;
    std::unique_ptr<QNEP::PlumedKernel> kernel_;
    std::unique_ptr<QNEP::Plumed> plumed_;
    std::unique_ptr<QNEP::RequestedAtoms> requested_;

    // What PLUMED reads and writes. Serial kernel: all atoms by identifier, on rank 0 only, of which only the rows it
    // asked for are valid. With MPI: the atoms of this rank, and forces_ stays empty as PLUMED writes to LAMMPS's own.
    std::vector<double> positions_, forces_, masses_, charges_;
    std::vector<double> physical_forces_;  // rank 0, of a step whose energy is biased
    std::vector<int> wanted_, global_indices_;
    double box_[3][3];
    double virial_before_[3][3], virial_after_[3][3];
    std::deque<double> work_values_;  // PLUMED keeps pointers to them
    double work_unit_ = 1.0;
    int wants_stop_ = 0;

    bool may_need_energy_ = false;
    bool needs_energy_ = false;
    double potential_energy_ = 0.0;
    Compute *energy_compute_ = nullptr;
    Compute *virial_compute_ = nullptr;
    std::string energy_compute_id_, virial_compute_id_;

    bool has_constants_ = false;
    bigint last_updated_step_ = -1;
    Outcome outcome_;
};

}  // namespace LAMMPS_NS
