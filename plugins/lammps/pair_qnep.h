// pair_style qnep: neuroevolution potentials with and without charges (NEP, qNEP).
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "distributed_model.h"
#include "force_deviation.h"
#include "pair.h"
#include "qnep_settings.h"
#include "stage_timer.h"
#include "summary_file.h"

namespace LAMMPS_NS {

/// The first model drives the run; further models of a committee are evaluated when their deviation is asked for.
class PairQNEP : public Pair {
public:
    explicit PairQNEP(LAMMPS *lammps);
    ~PairQNEP() override;

    void settings(int narg, char **arg) override;
    void coeff(int narg, char **arg) override;
    void init_style() override;
    double init_one(int i, int j) override;
    void compute(int eflag, int vflag) override;
    void finish() override;
    void *extract(const char *name, int &dim) override;
    double memory_usage() override;

    int pack_forward_comm(int n, int *atoms, double *buffer, int pbc_flag, int *pbc) override;
    void unpack_forward_comm(int n, int first, double *buffer) override;
    int pack_reverse_comm(int n, int first, double *buffer) override;
    void unpack_reverse_comm(int n, int *atoms, double *buffer) override;

    /// Whether there was an evaluation, and of the atoms and the neighbour list of now; between two runs, when commands
    /// can put atoms in the place of others, of their positions and types as well. Called by all ranks.
    bool is_evaluated();
    // What follows needs an evaluation of the atoms of now: see is_evaluated().
    /// Of the model that drives the run; [n_owned], V.
    virtual const std::vector<double> &potentials();
    bool drives_charges() const;  // whether the model that drives the run has charges
    bool has_charges() const;     // whether any of the models has
    int n_models() const { return static_cast<int>(models_.size()); }
    /// Force deviations of the committee for the positions of now, [n_owned], eV/Å. Called by all ranks.
    virtual const std::vector<double> &deviations();
    bool has_active_set() const { return active_set_ != nullptr; }
    /// Extrapolation grades for the positions of now, [n_owned]. Called by all ranks.
    virtual const std::vector<double> &grades();
    /// Born effective charges of the last evaluation, [n_owned][9] row-major (field slow), e. Called by all ranks.
    virtual const std::vector<double> &born_effective_charges();
    /// For fix qnep/conp, see DistributedModel; of the model that drives the run.
    void set_charge_response(DistributedModel::ChargeResponse response);
    double ewald_alpha() const { return models_.front()->model().ewald_alpha(); }  // 1/Å
    double energy_unit() const { return energy_unit_; }                            // of one eV in LAMMPS units

protected:
    QNEPSettings settings_;
    std::vector<std::unique_ptr<DistributedModel>> models_;
    std::vector<std::shared_ptr<TypedNeighbors>> neighbors_;  // one per order of elements
    double cutoff_ = 0.0;                                     // largest of all models, Å
    double energy_unit_ = 1.0;
    StageTimer timer_;
    std::vector<double> deviations_;  // [n_owned]
    bigint deviation_step_ = -1;
    std::unique_ptr<qnep::ActiveSet> active_set_;  // of the model that drives the run
    std::vector<double> grades_;                   // [n_owned]
    bigint grade_step_ = -1;
    std::vector<double> born_charges_;  // [n_total][9]
    double *ghost_values_ = nullptr;    // what forward and reverse communication work on

    void without_exceptions(const std::function<void()> &action);
    /// After each evaluation.
    void mark_evaluated();
    /// Whether the owned atoms stand where the last evaluation saw them, with the same elements.
    virtual bool has_evaluated_positions() const;
    virtual const tagint *ids();  // of owned atoms and ghosts
    /// Adds the ghosts' rows to their owners'; values: [n_total][width].
    void sum_back_from_ghosts(double *values, int width);
    /// Lines of this step in the files of deviations and grades; elements: [n_owned] of the model that drives the run.
    void write_summaries(const std::vector<int> &elements);
    bool is_summary_step() const;

private:
    void allocate();
    void forget_models();
    void add_model(const std::string &file);
    std::shared_ptr<TypedNeighbors> neighbors_for(const qnep::Model &model, const std::string &file);
    void check_charges_possible();
    void check_special_bonds();
    void check_exclusions() const;
    bool has_model_atoms(int group_bit, bool inside) const;
    bool holds_any_of(std::vector<tagint> &atoms, const std::vector<tagint> &partners) const;
    SummaryFile::Place place() const;
    void update_neighbors();
    void share_with_ghosts(double *values);
    void read_active_set();
    void check_temperature();
    void add_forces();
    void add_energies();
    void add_virials();
    void store_charges();

    std::unique_ptr<SummaryFile> deviation_file_, grade_file_;
    bigint n_list_builds_ = -1;  // of LAMMPS, when the neighbours were last taken over
    // The last evaluation: builds of LAMMPS's lists before it, owned atoms and ghosts.
    bool is_evaluated_ = false;
    bigint n_builds_evaluated_ = -1;
    std::array<int, 2> n_evaluated_{};
    std::vector<double> evaluated_positions_;  // [n_owned][3]; of the host style alone
    int ghost_width_ = 1;
};

}  // namespace LAMMPS_NS
