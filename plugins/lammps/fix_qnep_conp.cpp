#include "fix_qnep_conp.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "exceptions.h"
#include "find_pair_qnep.h"
#include "force.h"
#include "input.h"
#include "memory.h"
#include "modify.h"
#include "pair_qnep.h"
#include "update.h"
#include "variable.h"

namespace LAMMPS_NS {

namespace {

constexpr double largest_sensible_charge = 1.0;  // e; more is no linear response of a metal

// Global vector: these, then charge and potential of each electrode.
enum Quantity { iterations, residual, capacitance, n_quantities };

qnep::Cell box_vectors(const Domain &domain) {
    return {{{domain.h[0], 0.0, 0.0}, {domain.h[5], domain.h[1], 0.0}, {domain.h[4], domain.h[3], domain.h[2]}}};
}

}  // namespace

FixQNEPConp::FixQNEPConp(LAMMPS *lammps, int narg, char **arg): Fix(lammps, narg, arg), atoms_(lammps) {
    if (igroup != 0) {
        error->all(FLERR, "fix qnep/conp: wanted the group all (electrodes are named by keywords), got {}", arg[1]);
    }
    settings_ = parse_conp_settings(lmp, narg - 3, arg + 3);
    scalar_flag = 1;
    extscalar = 1;
    vector_flag = 1;
    size_vector = n_quantities + 2 * static_cast<int>(settings_.options.electrodes.size());
    extvector = 0;
    global_freq = 1;
    peratom_flag = 1;
    size_peratom_cols = 2;
    peratom_freq = 1;
    energy_global_flag = virial_global_flag = 1;
    thermo_energy = thermo_virial = 1;
    restart_global = 1;
    memory->create(array_atom, std::max(atom->nmax, 1), 2, "qnep/conp:array_atom");
    std::fill_n(&array_atom[0][0], 2 * std::max(atom->nmax, 1), 0.0);
}

FixQNEPConp::~FixQNEPConp() {
    memory->destroy(array_atom);
}

int FixQNEPConp::setmask() {
    return FixConst::PRE_FORCE | FixConst::MIN_PRE_FORCE | FixConst::POST_FORCE | FixConst::MIN_POST_FORCE;
}

void FixQNEPConp::check_system() {
    const bool is_real = std::strcmp(update->unit_style, "real") == 0;
    if (!is_real && std::strcmp(update->unit_style, "metal") != 0) {
        error->all(FLERR, "fix qnep/conp: wanted units metal or real, got units {}", update->unit_style);
    }
    energy_unit_ = is_real ? utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL) : 1.0;
    if (!atom->q_flag) {
        error->all(FLERR, "fix qnep/conp: wanted an atom style with charges (atom_style charge), got atom_style {}",
                   atom->atom_style);
    }
    if (!atom->tag_enable) {
        error->all(FLERR, "fix qnep/conp: wanted atoms with identifiers, got atom_modify id no");
    }
    if (domain->nonperiodic != 0) {
        char boundary[9];
        domain->boundary_string(boundary);
        error->all(FLERR,
                   "fix qnep/conp: wanted boundary p p p, with vacuum inside the box along the slab's normal, got "
                   "boundary {}",
                   boundary);
    }
    if (force->kspace != nullptr) {
        error->all(FLERR, "fix qnep/conp sums its charges itself: wanted kspace_style none, got {}",
                   force->kspace_style);
    }
    if (utils::strmatch(update->integrate_style, "^respa")) {
        error->all(FLERR, "fix qnep/conp: wanted run_style verlet, got {}", update->integrate_style);
    }
    if (modify->get_fix_by_style("^qnep/conp").size() > 1) {
        error->all(FLERR, "fix qnep/conp: wanted one such fix with all electrodes, got several");
    }
}

void FixQNEPConp::init() {
    check_system();
    has_warned_ = false;
    qnep::ElectrodeOptions options = settings_.options;
    for (std::size_t e = 0; e < settings_.variables.size(); ++e) {
        const std::string &name = settings_.variables[e];
        if (name.empty()) {
            continue;
        }
        const int index = input->variable->find(name.c_str());
        if (index < 0 || !input->variable->equalstyle(index)) {
            error->all(FLERR, "fix qnep/conp, electrode {}: wanted an equal-style variable, got v_{}",
                       options.electrodes[e].name, name);
        }
    }
    options.n_threads = comm->nthreads;
    options.share.rank = comm->me;
    options.share.n_ranks = comm->nprocs;
    if (comm->nprocs > 1) {
        // Reduced on one rank and sent to all: the same bits everywhere, so that all ranks take the same decisions.
        options.share.sum = [ranks = world, me = comm->me](int n, double *values) {
            MPI_Reduce(me == 0 ? MPI_IN_PLACE : values, values, n, MPI_DOUBLE, MPI_SUM, 0, ranks);
            MPI_Bcast(values, n, MPI_DOUBLE, 0, ranks);
        };
    }
    if (is_induced()) {
        PairQNEP *pair = find_pair_qnep(lmp, "fix qnep/conp induced");
        if (!pair->drives_charges()) {
            error->all(FLERR, "fix qnep/conp induced: wanted a qNEP model, got one without charges; for any other "
                              "potential there is the scheme equilibrated");
        }
        options.alpha = pair->ewald_alpha();
        response_ = std::make_shared<std::function<void(const double *, double *)>>(
            [this](const double *charges, double *derivatives) { respond(charges, derivatives); });
        pair->set_charge_response([weak = std::weak_ptr<std::function<void(const double *, double *)>>(response_)](
                                      const double *charges, double *derivatives) {
            if (const auto response = weak.lock()) {
                (*response)(charges, derivatives);
            }
        });
    }
    if (cell_) {
        restored_ = cell_->histories();
    }
    try {
        cell_ = std::make_unique<qnep::ElectrodeCell>(options);
    } catch (const std::exception &failure) {
        error->all(FLERR, "fix qnep/conp: {}", failure.what());
    }
    cell_->histories() = restored_;
}

void FixQNEPConp::setup_pre_force(int vflag) {
    for (qnep::ChargeHistory &history : cell_->histories()) {
        history.repeat_last();
    }
    pre_force(vflag);
}

void FixQNEPConp::min_pre_force(int vflag) {
    pre_force(vflag);
}

void FixQNEPConp::set_values() {
    const bool has_variables = std::any_of(settings_.variables.begin(), settings_.variables.end(),
                                           [](const std::string &name) { return !name.empty(); });
    if (!has_variables) {
        return;
    }
    modify->clearstep_compute();
    for (std::size_t e = 0; e < settings_.variables.size(); ++e) {
        if (!settings_.variables[e].empty()) {
            double value = input->variable->compute_equal(input->variable->find(settings_.variables[e].c_str()));
            MPI_Bcast(&value, 1, MPI_DOUBLE, 0, world);
            cell_->set_value(static_cast<int>(e), value);
        }
    }
    modify->addstep_compute(update->ntimestep + 1);
}

void FixQNEPConp::pre_force(int /*vflag*/) {
    has_responded_ = false;
    atoms_.gather(settings_.group_bits);
    const auto shared =
        std::find(atoms_.groups().begin(), atoms_.groups().end(), static_cast<int>(ConpAtoms::several_groups));
    if (shared != atoms_.groups().end()) {
        error->all(FLERR, "fix qnep/conp: atom {} belongs to more than one electrode's group",
                   atoms_.tags()[shared - atoms_.groups().begin()]);
    }
    without_exceptions([&] {
        set_values();
        cell_->set_atoms(atoms_.n(), atoms_.positions().data(), box_vectors(*domain), atoms_.types().data(),
                         settings_.group_bits.empty() ? nullptr : atoms_.groups().data());
    });
}

/// Called by the pair style between its charges and its forces; charges and charge_derivatives: [nlocal].
void FixQNEPConp::respond(const double *charges, double *charge_derivatives) {
    atoms_.gather_values(charges, all_charges_);
    without_exceptions([&] {
        const std::vector<double> &response = cell_->respond(all_charges_.data());
        for (std::size_t i = 0; i < atoms_.rows().size(); ++i) {
            charge_derivatives[i] += response[atoms_.rows()[i]];
        }
    });
    has_responded_ = true;
}

void FixQNEPConp::setup(int vflag) {
    post_force(vflag);
}

void FixQNEPConp::min_setup(int vflag) {
    post_force(vflag);
}

void FixQNEPConp::min_post_force(int vflag) {
    post_force(vflag);
}

void FixQNEPConp::post_force(int vflag) {
    if (!is_induced()) {
        without_exceptions([&] { cell_->equilibrate(); });
    } else if (!has_responded_) {
        error->all(FLERR, "fix qnep/conp induced: pair_style qnep was not evaluated in this step");
    }
    const qnep::ElectrodeResult &result = cell_->result();
    for (int i = 0; i < atom->nlocal; ++i) {
        const double *added = &result.forces[3 * std::size_t(atoms_.rows()[i])];
        for (int d = 0; d < 3; ++d) {
            atom->f[i][d] += energy_unit_ * added[d];
        }
    }
    v_init(vflag);
    if (vflag_global && comm->me == 0) {
        static constexpr int row_major[6] = {0, 4, 8, 1, 2, 5};  // of xx yy zz xy xz yz
        for (int c = 0; c < 6; ++c) {
            virial[c] += energy_unit_ * result.virial[row_major[c]];
        }
    }
    store_charges();
    warn_of_large_charges();
}

void FixQNEPConp::store_charges() {
    memory->grow(array_atom, std::max(atom->nmax, 1), 2, "qnep/conp:array_atom");
    for (int i = 0; i < atom->nlocal; ++i) {
        const int row = atoms_.rows()[i];
        const double charge = cell_->result().charges[row];
        atom->q[i] = is_induced() ? all_charges_[row] + charge : charge;
        array_atom[i][0] = charge;
        array_atom[i][1] = cell_->metal(row);
    }
}

void FixQNEPConp::warn_of_large_charges() {
    const qnep::ElectrodeResult &result = cell_->result();
    if (has_warned_ || !(std::abs(result.largest_charge) > largest_sensible_charge)) {
        return;
    }
    has_warned_ = true;
    if (comm->me == 0) {
        std::string potentials;
        for (double potential : result.electrode_potentials) {
            potentials += fmt::format(" {:g}", potential);
        }
        error->warning(FLERR,
                       "fix qnep/conp: electrode atom {} carries {:.2f} e, more than {:g} e, at potentials{} V: they "
                       "drive the model beyond its sense",
                       atoms_.tags()[result.worst_atom], result.largest_charge, largest_sensible_charge, potentials);
    }
}

void FixQNEPConp::without_exceptions(const std::function<void()> &action) {
    try {
        action();
    } catch (const LAMMPSException &) {
        throw;
    } catch (const std::bad_alloc &) {
        error->one(FLERR, "fix qnep/conp: out of memory");
    } catch (const std::exception &failure) {
        const std::string reason = failure.what();
        const std::string file = save_state(reason);
        error->all(FLERR, "fix qnep/conp: {}{}", reason,
                   file.empty() ? "" : fmt::format(". State of step {} saved in {}", update->ntimestep, file));
    }
}

/// Writes a restart file if a run was under way and the atoms are all there; its name, or nothing.
std::string FixQNEPConp::save_state(const std::string &reason) {
    double sums[2] = {static_cast<double>(atom->nlocal), 0.0};
    for (int i = 0; i < atom->nlocal; ++i) {
        for (int d = 0; d < 3; ++d) {
            sums[1] += std::isfinite(atom->x[i][d]) ? 0.0 : 1.0;
        }
    }
    MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_DOUBLE, MPI_SUM, world);
    const bool is_whole = static_cast<bigint>(sums[0]) == atom->natoms && sums[1] == 0.0;
    if (is_saving_ || !is_whole || update->ntimestep == update->beginstep) {
        return "";
    }
    is_saving_ = true;
    utils::logmesg(lmp, "fix qnep/conp stops the run: {}\n", reason);  // before anything else can go wrong
    const std::string file = fmt::format("{}.failed.restart", id);
    input->one(fmt::format("write_restart {} noinit", file));
    return file;
}

/// Energy added to that of the pair style.
double FixQNEPConp::compute_scalar() {
    return cell_ ? energy_unit_ * cell_->result().energy : 0.0;
}

double FixQNEPConp::compute_vector(int component) {
    if (!cell_ || cell_->result().electrode_charges.empty()) {
        return 0.0;
    }
    const qnep::ElectrodeResult &result = cell_->result();
    switch (component) {
    case iterations:
        return result.n_iterations;
    case residual:
        return result.error_bound;
    case capacitance:
        return result.capacitance;
    default:
        const int electrode = (component - n_quantities) / 2;
        const bool is_charge = (component - n_quantities) % 2 == 0;
        return is_charge ? result.electrode_charges[electrode] : result.electrode_potentials[electrode];
    }
}

/// Charges of the last steps: number of atoms, then for both systems the number of solutions and these.
void FixQNEPConp::write_restart(FILE *file) {
    if (comm->me != 0) {
        return;
    }
    const auto histories = cell_ ? cell_->histories() : restored_;
    std::vector<double> values{0.0};
    for (const auto &history : histories) {
        values.push_back(static_cast<double>(history.solutions().size()));
        for (const auto &solution : history.solutions()) {
            values[0] = static_cast<double>(solution.size());
            values.insert(values.end(), solution.begin(), solution.end());
        }
    }
    const int size = static_cast<int>(values.size() * sizeof(double));
    fwrite(&size, sizeof(int), 1, file);
    fwrite(values.data(), sizeof(double), values.size(), file);
}

void FixQNEPConp::restart(char *buffer) {
    double head = 0.0;
    std::memcpy(&head, buffer, sizeof(double));
    const auto n = static_cast<std::size_t>(head);
    const char *next = buffer + sizeof(double);
    for (auto &history : restored_) {
        double count = 0.0;
        std::memcpy(&count, next, sizeof(double));
        next += sizeof(double);
        std::vector<std::vector<double>> solutions(static_cast<std::size_t>(count), std::vector<double>(n));
        for (auto &solution : solutions) {
            std::memcpy(solution.data(), next, n * sizeof(double));
            next += n * sizeof(double);
        }
        history.clear();
        for (auto solution = solutions.rbegin(); solution != solutions.rend(); ++solution) {
            history.remember(*solution);
        }
    }
}

double FixQNEPConp::memory_usage() {
    return static_cast<double>(atoms_.n()) * 40.0 * sizeof(double);
}

}  // namespace LAMMPS_NS
