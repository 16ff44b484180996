#include "kspace_reciprocal_sum.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "atom.h"
#include "constants.h"
#include "domain.h"
#include "force.h"
#include "kspace.h"
#include "lammps.h"
#include "neighbor.h"
#include "pair.h"
#include "utils.h"

namespace LAMMPS_NS {

namespace {

// A box length may change by this much before the mesh is chosen anew.
constexpr double largest_strain = 0.1;

// From this accuracy on stencils of order 6, the fastest above it, need much larger meshes than those of order 7.
constexpr double high_accuracy = 1.0e-6;

/// What a solver sees as the pair style. The style itself must not look as if it had a Coulomb part of LAMMPS: any
/// kspace_style would be accepted beside it, and below a hybrid style its cutoff would have to be that of the others.
class SolverPair : public Pair {
public:
    SolverPair(LAMMPS *lammps, double cutoff): Pair(lammps), cutoff_(cutoff) { ewaldflag = pppmflag = 1; }

    void compute(int /*eflag*/, int /*vflag*/) override {}
    void settings(int /*narg*/, char ** /*arg*/) override {}
    void coeff(int /*narg*/, char ** /*arg*/) override {}
    void *extract(const char *name, int &dim) override {
        dim = 0;
        return std::strcmp(name, "cut_coul") == 0 ? &cutoff_ : nullptr;
    }

private:
    double cutoff_;
};

/// Puts other objects in the place of members of LAMMPS while in scope.
class Loan {
public:
    Loan(LAMMPS *lammps, double *charges, double **forces, Pair *pair, KSpace *kspace):
        atom_(lammps->atom), force_(lammps->force), charges_(atom_->q), forces_(atom_->f), pair_(force_->pair),
        kspace_(force_->kspace) {
        atom_->q = charges;
        atom_->f = forces;
        force_->pair = pair;
        force_->kspace = kspace;
    }
    ~Loan() {
        atom_->q = charges_;
        atom_->f = forces_;
        force_->pair = pair_;
        force_->kspace = kspace_;
    }
    Loan(const Loan &) = delete;
    Loan &operator=(const Loan &) = delete;

private:
    Atom *atom_;
    Force *force_;
    double *charges_;
    double **forces_;
    Pair *pair_;
    KSpace *kspace_;
};

void modify_params(KSpace *solver, std::vector<std::string> words) {
    std::vector<char *> arguments;
    for (std::string &word : words) {
        arguments.push_back(word.data());
    }
    solver->modify_params(static_cast<int>(arguments.size()), arguments.data());
}

}  // namespace

KSpaceReciprocalSum::KSpaceReciprocalSum(LAMMPS *lammps, const QNEPSettings &settings, double alpha, double cutoff):
    lammps_(lammps), settings_(settings), pair_(std::make_unique<SolverPair>(lammps, cutoff)), alpha_(alpha) {}

KSpaceReciprocalSum::~KSpaceReciprocalSum() = default;

std::string KSpaceReciprocalSum::style() const {
    return settings_.kspace == KSpaceMethod::ewald ? "ewald" : "pppm";
}

void KSpaceReciprocalSum::create_solver() {
    int suffix_flag = 0;
    solver_.reset(lammps_->force->new_kspace(style(), 0, suffix_flag));
    is_ready_ = false;
    std::string accuracy = fmt::format("{:.17g}", settings_.kspace_accuracy);
    char *arguments[] = {accuracy.data()};
    solver_->settings(1, arguments);
    modify_params(solver_.get(), {"gewald", fmt::format("{:.17g}", alpha_)});
    if (settings_.has_slab()) {
        modify_params(solver_.get(), {"slab", fmt::format("{:.17g}", settings_.slab_factor)});
    }
    if (settings_.kspace == KSpaceMethod::pppm) {
        const int order =
            settings_.mesh_order != 0 ? settings_.mesh_order : (settings_.kspace_accuracy < high_accuracy ? 7 : 6);
        modify_params(solver_.get(), {"order", std::to_string(order)});
    }
    if (settings_.mesh[0] != 0) {
        modify_params(solver_.get(), {"mesh", std::to_string(settings_.mesh[0]), std::to_string(settings_.mesh[1]),
                                      std::to_string(settings_.mesh[2])});
    }
    constexpr int already_warned = 2;
    solver_->warn_nonneutral = already_warned;  // a total charge is asked for by keyword
}

void KSpaceReciprocalSum::set_cell(const qnep::Cell &cell) {
    has_new_cell_ = has_new_cell_ || cell != cell_;
    cell_ = cell;
}

bool KSpaceReciprocalSum::has_outgrown_mesh() const {
    for (int d = 0; d < 3; ++d) {
        if (std::abs(lammps_->domain->prd[d] / lengths_at_start_[d] - 1.0) > largest_strain) {
            return true;
        }
    }
    return false;
}

/// Choose the mesh for the box and the charges of now.
void KSpaceReciprocalSum::start_solver() {
    solver_->init();  // sets the scale to one
    *static_cast<double *>(solver_->extract("scale")) = qnep::coulomb_constant / lammps_->force->qqrd2e;
    solver_->setup();
    std::copy_n(lammps_->domain->prd, 3, lengths_at_start_.begin());
    is_ready_ = true;
}

/// The mesh is spread over the ranks as the box is; after `balance` the solver must spread it again.
void KSpaceReciprocalSum::follow_domains() {
    const Domain &domain = *lammps_->domain;
    std::array<double, 6> subdomain;
    for (int d = 0; d < 3; ++d) {
        const bool is_tilted = domain.triclinic != 0;
        const double low = is_tilted ? domain.sublo_lamda[d] : (domain.sublo[d] - domain.boxlo[d]) / domain.prd[d];
        const double high = is_tilted ? domain.subhi_lamda[d] : (domain.subhi[d] - domain.boxlo[d]) / domain.prd[d];
        subdomain[d] = low;
        subdomain[3 + d] = high;
    }
    constexpr double tolerance = 1.0e-12;  // rounding of the division by a changing box length
    int has_moved = 0;
    for (int d = 0; d < 6; ++d) {
        has_moved |= std::abs(subdomain[d] - subdomain_[d]) > tolerance;
    }
    MPI_Allreduce(MPI_IN_PLACE, &has_moved, 1, MPI_INT, MPI_MAX, lammps_->world);
    subdomain_ = subdomain;
    if (has_moved && is_ready_) {
        spread_mesh();
    }
}

void KSpaceReciprocalSum::spread_mesh() {
    solver_->reset_grid();
}

void KSpaceReciprocalSum::set_charge_sums() {
    solver_->qsum_qsq(0);
}

void KSpaceReciprocalSum::require_solver() {
    if (!solver_ || (has_new_cell_ && has_outgrown_mesh())) {
        create_solver();
    }
}

void KSpaceReciprocalSum::prepare_solver() {
    // Not at every list: further models of a committee are evaluated now and then.
    if (lammps_->neighbor->ago == 0 || lammps_->neighbor->ncalls != n_list_builds_) {
        follow_domains();
        n_list_builds_ = lammps_->neighbor->ncalls;
    }
    if (!is_ready_) {
        start_solver();
    } else if (has_new_cell_) {
        solver_->setup();
    }
    has_new_cell_ = false;
    set_charge_sums();
}

void KSpaceReciprocalSum::lend_charges(int n, const double *charges) {
    charges_.resize(n);
    for (int i = 0; i < n; ++i) {
        charges_[i] = std::abs(charges[i]) < tiny_charge ? tiny_charge : charges[i];
    }
}

void KSpaceReciprocalSum::lend_forces(int n, double *forces) {
    if (forces == nullptr) {
        unused_forces_.resize(3 * static_cast<std::size_t>(n));
        forces = unused_forces_.data();
    }
    force_rows_.resize(n);
    for (int i = 0; i < n; ++i) {
        force_rows_[i] = forces + 3 * static_cast<std::size_t>(i);
    }
}

double KSpaceReciprocalSum::compute(int n, const double * /*positions*/, const double *charges,
                                    const qnep::ReciprocalOutput &output) {
    require_solver();
    lend_charges(n, charges);
    lend_forces(n, output.forces);
    {
        const Loan loan(lammps_, charges_.data(), force_rows_.data(), pair_.get(), solver_.get());
        prepare_solver();
        const int vflag = (output.virial != nullptr ? VIRIAL_PAIR : VIRIAL_NONE) |
                          (output.atom_virials != nullptr ? VIRIAL_ATOM : VIRIAL_NONE);
        solver_->compute(ENERGY_ATOM, vflag);
    }
    take_virials(n, output);
    return take_energies(n, output);
}

double KSpaceReciprocalSum::own_gaussian() const {
    return qnep::coulomb_constant * alpha_ / std::sqrt(qnep::pi);
}

double KSpaceReciprocalSum::background() const {
    const double *lengths = lammps_->domain->prd;
    const double volume = lengths[0] * lengths[1] * lengths[2] * settings_.slab_factor;
    return qnep::coulomb_constant * qnep::pi * settings_.total_charge / (2.0 * alpha_ * alpha_ * volume);
}

/// LAMMPS subtracts from each energy the charge's own Gaussian and the uniform background; both are put back.
double KSpaceReciprocalSum::take_energies(int n, const qnep::ReciprocalOutput &output) const {
    const double per_square = own_gaussian(), per_charge = background();
    double energy = 0.0;
    for (int i = 0; i < n; ++i) {
        const double site_energy = solver_->eatom[i] + (per_square * charges_[i] + per_charge) * charges_[i];
        energy += site_energy;
        if (output.site_energies != nullptr) {
            output.site_energies[i] += site_energy;
        }
        if (output.potentials != nullptr) {
            output.potentials[i] += 2.0 * site_energy / charges_[i];
        }
    }
    return energy;
}

void KSpaceReciprocalSum::take_virials(int n, const qnep::ReciprocalOutput &output) const {
    static constexpr int voigt_of[9] = {0, 3, 4, 3, 1, 5, 4, 5, 2};  // row-major <- xx yy zz xy xz yz
    if (output.virial != nullptr) {
        for (int c = 0; c < 9; ++c) {
            output.virial[c] += solver_->virial[voigt_of[c]];
        }
    }
    if (output.atom_virials != nullptr) {
        for (int i = 0; i < n; ++i) {
            for (int c = 0; c < 9; ++c) {
                output.atom_virials[9 * static_cast<std::size_t>(i) + c] += solver_->vatom[i][voigt_of[c]];
            }
        }
    }
}

std::string KSpaceReciprocalSum::describe() const {
    if (!solver_) {
        return "not started";
    }
    if (settings_.kspace == KSpaceMethod::ewald) {
        return "Ewald sum";
    }
    return fmt::format("PPPM, {} x {} x {} points, order {}", solver_->nx_pppm, solver_->ny_pppm, solver_->nz_pppm,
                       solver_->order);
}

double KSpaceReciprocalSum::memory_usage() const {
    return solver_ ? solver_->memory_usage() : 0.0;
}

}  // namespace LAMMPS_NS
