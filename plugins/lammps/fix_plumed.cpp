#include "fix_plumed.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <map>

#include "atom.h"
#include "comm.h"
#include "compute.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "group.h"
#include "modify.h"
#include "neighbor.h"
#include "timer.h"
#include "universe.h"
#include "update.h"
#include "utils.h"

using namespace LAMMPS_NS;
using QNEP::Plumed;
using QNEP::PlumedInstruction;
using QNEP::PlumedKernel;
using QNEP::RequestedAtoms;

namespace {

// Energy units of the keyword UNITS in a PLUMED file, in kJ/mol. PLUMED's own figure for 1 eV is older than CODATA
// 2018 by 2.6e-7; only with the same figure does an energy in eV mean the same to PLUMED and to LAMMPS.
constexpr double electron_volt = 96.48530749925792;
constexpr double hartree = 2625.499638;
constexpr double kilocalorie = 4.184;
const std::map<std::string, double> plumed_energy_units = {
    {"kj/mol", 1.0}, {"kcal/mol", kilocalorie}, {"j/mol", 1e-3}, {"eV", electron_volt}, {"Ha", hartree}};

constexpr double bohr_nm = 0.052917721067;
// A direction without periodic boundaries gets a box this many times as long: PLUMED then never folds a distance in it.
constexpr double unfolded_box_factor = 3.0;

}  // namespace

FixPlumed::Settings FixPlumed::parse(LAMMPS *lammps, int narg, char **arg) {
    Error *error = lammps->error;
    if ((narg - 3) % 2 != 0) {
        error->all(FLERR, "fix plumed: keyword '{}' has no value", arg[narg - 1]);
    }
    Settings settings;
    for (int i = 3; i < narg; i += 2) {
        const std::string keyword = arg[i];
        if (keyword == "plumedfile") {
            settings.plumed_file = arg[i + 1];
        } else if (keyword == "outfile") {
            settings.output_file = arg[i + 1];
        } else if (keyword == "restart") {
            settings.restarts = utils::logical(FLERR, arg[i + 1], false, lammps) != 0;
        } else if (keyword == "mpi") {
            settings.wants_mpi = utils::logical(FLERR, arg[i + 1], false, lammps) != 0;
        } else {
            error->all(FLERR, "fix plumed: unknown keyword '{}', expected plumedfile, outfile, restart or mpi",
                       keyword);
        }
    }
    if (settings.plumed_file.empty()) {
        error->all(FLERR, "fix plumed: the keyword plumedfile with a file is missing");
    }
    return settings;
}

FixPlumed::Units FixPlumed::units_of(LAMMPS *lammps) {
    const std::map<std::string, Units> known = {
        {"metal", {electron_volt, 0.1, 1.0, 1.0, false}},
        {"real", {kilocalorie, 0.1, 1e-3, 1.0, false}},
        {"electron", {hartree, bohr_nm, 1e-3, 1.0, false}},
        {"lj", {1.0, 1.0, 1.0, 1.0, true}},
    };
    const auto found = known.find(lammps->update->unit_style);
    if (found == known.end()) {
        lammps->error->all(FLERR, "fix plumed: units {} are not supported, expected metal, real, electron or lj",
                           lammps->update->unit_style);
    }
    return found->second;
}

FixPlumed::FixPlumed(LAMMPS *lammps, int narg, char **arg): Fix(lammps, narg, arg), units_(units_of(lammps)) {
    const Settings settings = parse(lammps, narg, arg);
    scalar_flag = vector_flag = 1;
    size_vector = 2;
    global_freq = 1;
    extscalar = extvector = 1;
    energy_global_flag = virial_global_flag = 1;
    thermo_energy = thermo_virial = 1;
    time_depend = 1;  // a reset_timestep would confuse moving restraints and the strides of PLUMED

    n_atoms_ = atom->natoms <= std::numeric_limits<int>::max() ? static_cast<int>(atom->natoms) : 0;
    timestep_ = update->dt;
    check_atoms();
    load_kernel(settings);
    start_plumed(settings);
    if (may_need_energy_) {
        make_energy_computes();
    }
}

FixPlumed::~FixPlumed() {
    // An error during creation leaves no computes, and modify may be gone already when LAMMPS ends.
    if (energy_compute_ != nullptr && modify != nullptr) {
        modify->delete_compute(energy_compute_id_);
        modify->delete_compute(virial_compute_id_);
    }
}

void FixPlumed::check_atoms() const {
    if (n_atoms_ == 0) {
        error->all(FLERR, "fix plumed: needs between 1 and 2^31-1 atoms, there are {}", atom->natoms);
    }
    if (atom->natoms != n_atoms_) {
        error->all(FLERR, "fix plumed: started with {} atoms and now there are {}; unfix it before atoms come or go",
                   n_atoms_, atom->natoms);
    }
    if (group->count(igroup) != atom->natoms) {
        error->all(FLERR, "fix plumed: the group must be all, '{}' has {} of {} atoms", group->names[igroup],
                   group->count(igroup), atom->natoms);
    }
    if (!atom->tag_enable || !atom->tag_consecutive()) {
        error->all(FLERR, "fix plumed: atom identifiers must run from 1 to {} without gaps (see reset_atoms id)",
                   n_atoms_);
    }
}

void FixPlumed::load_kernel(const Settings &settings) {
    const auto load = [&] {
        kernel_ = std::make_unique<PlumedKernel>();
        if (settings.wants_mpi && !kernel_->shares_mpi()) {
            throw QNEP::PlumedError("mpi yes: the kernel " + kernel_->path() +
                                    " is not linked with the MPI library of this LAMMPS");
        }
    };
    // Rank 0 decides, and its decision holds for all: a file may be missing on another node.
    int choice = 0;  // 0: failed, 1: serial, 2: on all ranks
    std::string failure;
    if (comm->me == 0) {
        try {
            load();
            choice = settings.wants_mpi ? 2 : 1;
        } catch (const std::exception &reason) {
            failure = reason.what();
        }
    }
    MPI_Bcast(&choice, 1, MPI_INT, 0, world);
    if (choice == 0) {
        stop_with(failure);
    }
    shares_mpi_ = choice == 2;
    runs_here_ = comm->me == 0 || shares_mpi_;
    if (shares_mpi_ && comm->me != 0) {
        try {
            load();
        } catch (const std::exception &reason) {
            error->one(FLERR, "fix plumed: {}", reason.what());
        }
    }
}

/// Ends LAMMPS on all ranks with the message of rank 0.
void FixPlumed::stop_with(const std::string &message) {
    int length = static_cast<int>(message.size());
    MPI_Bcast(&length, 1, MPI_INT, 0, world);
    std::string shared = message;
    shared.resize(length);
    MPI_Bcast(shared.data(), length, MPI_CHAR, 0, world);
    error->all(FLERR, "fix plumed: {}", shared);
}

/// Runs an action where PLUMED lives; an exception ends LAMMPS on all ranks. Collective, for setup only.
template <class Action>
void FixPlumed::guarded(Action action) {
    int failed = 0;
    std::string failure;
    if (runs_here_) {
        try {
            action();
        } catch (const std::exception &reason) {
            failed = 1;
            failure = reason.what();
        }
    }
    if (shares_mpi_ && failed) {  // other ranks may wait inside PLUMED
        error->one(FLERR, "fix plumed: {}", failure);
    }
    MPI_Bcast(&failed, 1, MPI_INT, 0, world);
    if (failed) {
        stop_with(failure);
    }
}

void FixPlumed::start_plumed(const Settings &settings) {
    guarded([&] {
        instructions_ = QNEP::read_plumed_input(settings.plumed_file);
        plumed_ = std::make_unique<Plumed>(*kernel_);
        introduce_run(settings);
        read_instructions(settings);
        const std::vector<PlumedInstruction> all = QNEP::with_included(instructions_);
        watch_work(all);
        const bool restarts_itself =
            std::any_of(all.begin(), all.end(), [](const PlumedInstruction &one) { return one.action() == "RESTART"; });
        if (settings.restarts || restarts_itself) {  // the run before has printed and deposited at this step already
            last_updated_step_ = update->ntimestep;
        }
    });
    if (!shares_mpi_) {
        requested_ = std::make_unique<RequestedAtoms>(world, n_atoms_);
        const std::size_t n_rows = runs_here_ ? n_atoms_ : 0;
        positions_.resize(3 * n_rows);
        forces_.resize(3 * n_rows);
    }
    // An included file may ask for the energy as well.
    int may_need_energy = std::any_of(instructions_.begin(), instructions_.end(), [](const PlumedInstruction &one) {
        return one.action() == "ENERGY" || one.action() == "INCLUDE";
    });
    MPI_Bcast(&may_need_energy, 1, MPI_INT, 0, world);
    may_need_energy_ = may_need_energy != 0;
}

/// Everything PLUMED wants to know before its input.
void FixPlumed::introduce_run(const Settings &settings) {
    plumed_->send_value("setRealPrecision", static_cast<int>(sizeof(double)));
    if (units_.natural) {
        plumed_->send("setNaturalUnits");
    }
    plumed_->send_value("setMDEnergyUnits", units_.energy);
    plumed_->send_value("setMDLengthUnits", units_.length);
    plumed_->send_value("setMDTimeUnits", units_.time);
    plumed_->send_value("setMDChargeUnits", units_.charge);
    if (shares_mpi_) {
        introduce_ranks();
    }
    plumed_->send("setMDEngine", "LAMMPS");
    plumed_->send_value("setNatoms", n_atoms_);
    plumed_->send_value("setTimestep", timestep_);
    plumed_->send_value("setRestart", static_cast<int>(settings.restarts));
    const std::string log = settings.output_file.empty() ? "/dev/null" : settings.output_file;
    plumed_->send("setLogFile", log.c_str());
    plumed_->send("init");
}

/// Communicators of this simulation and, with several partitions, of the first ranks of all. PLUMED copies them.
void FixPlumed::introduce_ranks() {
    if (universe->nworlds > 1) {
        MPI_Comm first_ranks = MPI_COMM_NULL;
        MPI_Comm_split(universe->uworld, comm->me == 0 ? 0 : MPI_UNDEFINED, universe->iworld, &first_ranks);
        plumed_->send_value("GREX setMPIIntracomm", world);
        if (comm->me == 0) {
            plumed_->send_value("GREX setMPIIntercomm", first_ranks);
        }
        plumed_->send("GREX init");
        if (comm->me == 0) {
            MPI_Comm_free(&first_ranks);
        }
    }
    plumed_->send_value("setMPIComm", world);
}

void FixPlumed::read_instructions(const Settings &settings) {
    for (const auto &instruction : instructions_) {
        try {
            plumed_->send("readInputLine", instruction.text.c_str());
        } catch (const QNEP::PlumedError &failure) {
            const std::string words = failure.what();
            const bool is_unknown = words.find("cannot understand line") != std::string::npos ||
                                    words.find("is not known") != std::string::npos;
            const std::string hint = is_unknown ? "\n(a misspelt action, or one of a module that the kernel " +
                                                      kernel_->path() + " was built without)"
                                                : "";
            throw QNEP::PlumedError("file '" + settings.plumed_file + "', line " + std::to_string(instruction.line) +
                                    ":\n  " + instruction.text + "\nPLUMED says: " + words + hint);
        }
    }
}

/// Asks PLUMED to write the work of each bias that counts it to a place of ours.
void FixPlumed::watch_work(const std::vector<PlumedInstruction> &instructions) {
    double plumed_unit = 1.0;  // kJ/mol
    for (const auto &instruction : instructions) {
        const std::string action = instruction.action();
        const std::string energy = instruction.value_of("ENERGY");
        if (action == "UNITS" && !energy.empty()) {
            const auto known = plumed_energy_units.find(energy);
            plumed_unit = known != plumed_energy_units.end() ? known->second : std::stod(energy);
        }
        if (action == "MOVINGRESTRAINT" || (action == "METAD" && instruction.has_word("CALC_WORK"))) {
            const std::string label = instruction.label();
            if (label.empty()) {
                utils::logmesg(lmp, "WARNING: fix plumed: the work of {} in line {} is not counted, it has no label\n",
                               action, instruction.line);
                continue;
            }
            long rank = 0;
            work_values_.push_back(0.0);
            plumed_->send("getDataRank " + label + ".work", &rank);
            plumed_->send("setMemoryForData " + label + ".work", &work_values_.back());
        }
    }
    work_unit_ = units_.natural ? 1.0 : plumed_unit / units_.energy;
}

void FixPlumed::make_energy_computes() {
    // Without the fixes, so that the bias does not bias itself.
    const std::string terms = "pair bond angle dihedral improper kspace";
    energy_compute_id_ = std::string(id) + "_energy";
    virial_compute_id_ = std::string(id) + "_virial";
    energy_compute_ = modify->add_compute(energy_compute_id_ + " all pe " + terms);
    virial_compute_ = modify->add_compute(virial_compute_id_ + " all pressure NULL " + terms);
}

int FixPlumed::setmask() {
    return FixConst::POST_FORCE | FixConst::MIN_POST_FORCE;
}

void FixPlumed::init() {
    if (utils::strmatch(update->integrate_style, "^respa")) {
        error->all(FLERR, "fix plumed: run_style respa is not supported");
    }
    check_atoms();
    warn_of_other_forces();
}

/// A bias on ENERGY scales the forces that are there when it is applied; PLUMED's ENERGY holds no energy of a fix.
void FixPlumed::warn_of_other_forces() {
    if (!may_need_energy_ || comm->me != 0) {
        return;
    }
    bool comes_before = true;
    for (Fix *other : modify->get_fix_list()) {
        comes_before = comes_before && other != this;
        const int mask = modify->get_fix_mask(other);
        const bool adds_forces = (mask & (FixConst::POST_FORCE | FixConst::MIN_POST_FORCE)) != 0;
        const bool is_conp = utils::strmatch(other->style, "^qnep/conp");  // with an energy of its own in either order
        if (other != this && adds_forces && (comes_before || is_conp)) {
            utils::logmesg(lmp,
                           "WARNING: fix plumed: a bias on ENERGY would be wrong: fix {} {} adds forces whose energy "
                           "PLUMED does not see{}. To print ENERGY is harmless\n",
                           other->id, other->style, is_conp ? "" : "; define it after fix plumed");
        }
    }
}

void FixPlumed::setup(int vflag) {
    forget_owners();
    post_force(vflag);
}

/// Atoms may have changed their rank and order.
void FixPlumed::forget_owners() {
    if (requested_) {
        requested_->forget_owners();
    }
    are_indices_new_ = true;
}

void FixPlumed::min_setup(int vflag) {
    setup(vflag);
}

void FixPlumed::min_post_force(int vflag) {
    post_force(vflag);
}

void FixPlumed::reset_dt() {
    if (update->dt != timestep_) {
        error->all(FLERR, "fix plumed: the timestep changed from {} to {}; unfix it first, PLUMED counts on one length",
                   timestep_, update->dt);
    }
}

void FixPlumed::post_force(int vflag) {
    v_init(vflag);
    outcome_ = Outcome();
    if (neighbor->ago == 0) {
        forget_owners();
    }
    std::string failure;
    bool prepared = false;
    if (runs_here_) {
        try {
            prepared = prepare_step();
        } catch (const std::exception &reason) {
            failure = reason.what();
        }
    }
    int news[2] = {prepared ? 0 : 1, needs_energy_ ? 1 : 0};
    if (shares_mpi_ && !prepared) {
        error->one(FLERR, "fix plumed: {}", failure);
    }
    MPI_Bcast(news, 2, MPI_INT, 0, world);
    if (news[0]) {
        stop_with(failure);
    }
    needs_energy_ = news[1] != 0;
    if (needs_energy_ && energy_compute_ == nullptr) {
        error->all(FLERR, "fix plumed: PLUMED asks for the energy but no action ENERGY was found in its file");
    }
    pass_positions();
    pass_constants();
    pass_energy();
    if (runs_here_) {
        try {
            calculate();
        } catch (const std::exception &reason) {
            outcome_.failed = 1;
            failure = reason.what();
        }
    }
    if (shares_mpi_ && outcome_.failed) {
        error->one(FLERR, "fix plumed: {}", failure);
    }
    MPI_Bcast(&outcome_, sizeof(outcome_), MPI_BYTE, 0, world);
    if (outcome_.failed) {
        stop_with(failure);
    }
    last_updated_step_ = update->ntimestep;
    add_forces();
    add_virial();
    if (may_need_energy_) {
        energy_compute_->addstep(update->ntimestep + 1);
        virial_compute_->addstep(update->ntimestep + 1);
    }
    if (outcome_.wants_stop) {
        timer->force_timeout();
    }
}

/// Tells PLUMED the step and asks which atoms it needs and whether it needs the energy.
bool FixPlumed::prepare_step() {
    plumed_->send_value("setStepLong", static_cast<long>(update->ntimestep));
    plumed_->send("prepareDependencies");
    int needs_energy = 0;
    plumed_->send("isEnergyNeeded", &needs_energy);
    needs_energy_ = needs_energy != 0;
    if (shares_mpi_) {
        return true;
    }
    int n_wanted = 0;
    const int *list = nullptr;
    plumed_->send("createFullList", &n_wanted);
    plumed_->send("getFullList", &list);
    wanted_.assign(list, list + (list == nullptr ? 0 : n_wanted));
    plumed_->send("clearFullList");
    return true;
}

/// Brings one array of LAMMPS [n_local, width] to rank 0, for the requested atoms.
void FixPlumed::gather_from(const double *values, int width, std::vector<double> &all) {
    std::vector<double> owned;
    owned.reserve(requested_->local().size() * width);
    for (const int i : requested_->local()) {
        owned.insert(owned.end(), values + static_cast<std::ptrdiff_t>(i) * width,
                     values + static_cast<std::ptrdiff_t>(i + 1) * width);
    }
    requested_->gather(owned, width, all);
}

void FixPlumed::pass_positions() {
    const int n_local = atom->nlocal;
    if (shares_mpi_) {
        if (are_indices_new_) {
            global_indices_.resize(n_local);
            for (int i = 0; i < n_local; ++i) {
                global_indices_[i] = static_cast<int>(atom->tag[i]) - 1;
            }
        }
        return;
    }
    if (needs_energy_ || !has_constants_) {  // a bias on the energy scales the force on every atom
        requested_->set_all();
    } else {
        requested_->set(wanted_);
    }
    if (!requested_->is_located() && !requested_->locate(atom->tag, n_local)) {
        error->all(FLERR, "fix plumed: atoms were lost, {} were expected", n_atoms_);
    }
    gather_from(n_local > 0 ? atom->x[0] : nullptr, 3, positions_);
}

/// Masses and charges, which PLUMED reads once, at its first step.
void FixPlumed::pass_constants() {
    if (shares_mpi_ ? !are_indices_new_ : has_constants_) {
        return;
    }
    const int n_local = atom->nlocal;
    std::vector<double> masses(n_local);
    for (int i = 0; i < n_local; ++i) {
        masses[i] = atom->rmass != nullptr ? atom->rmass[i] : atom->mass[atom->type[i]];
    }
    std::vector<double> charges(n_local, 0.0);
    if (atom->q_flag) {
        std::copy_n(atom->q, n_local, charges.begin());
    }
    if (shares_mpi_) {
        masses_ = masses;
        charges_ = charges;
        return;
    }
    masses_.resize(positions_.size() / 3);
    charges_.resize(masses_.size());
    gather_from(masses.data(), 1, masses_);
    gather_from(charges.data(), 1, charges_);
    has_constants_ = true;
}

/// Energy, forces and virial without the bias, where PLUMED asks for the energy.
void FixPlumed::pass_energy() {
    std::fill_n(&virial_before_[0][0], 9, 0.0);
    if (!needs_energy_) {
        return;
    }
    potential_energy_ = energy_compute_->compute_scalar();
    virial_compute_->compute_vector();
    const double volume = domain->xprd * domain->yprd * domain->zprd;
    const int voigt[3][3] = {{0, 3, 4}, {3, 1, 5}, {4, 5, 2}};
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {  // PLUMED's virial has the other sign
            virial_before_[i][j] = -virial_compute_->vector[voigt[i][j]] * volume / force->nktv2p;
        }
    }
    if (!shares_mpi_) {
        physical_forces_.resize(forces_.size());
        gather_from(atom->nlocal > 0 ? atom->f[0] : nullptr, 3, physical_forces_);
    }
}

void FixPlumed::calculate() {
    const double *h = domain->h;  // xx yy zz yz xz xy
    const int periodic[3] = {domain->xperiodic, domain->yperiodic, domain->zperiodic};
    const double vectors[3][3] = {{h[0], 0.0, 0.0}, {h[5], h[1], 0.0}, {h[4], h[3], h[2]}};
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {
            box_[i][j] = vectors[i][j] * (periodic[i] ? 1.0 : unfolded_box_factor);
        }
    }
    plumed_->send("setBox", box_);
    if (shares_mpi_) {
        if (are_indices_new_) {  // all ranks at the same steps: PLUMED's ranks talk about it
            plumed_->send_value("setAtomsNlocal", atom->nlocal);
            plumed_->send("setAtomsGatindex", global_indices_.data());
            are_indices_new_ = false;
        }
        plumed_->send("setPositions", atom->x[0]);
        plumed_->send("setForces", atom->f[0]);
    } else {
        for (const int one : requested_->list()) {
            for (int k = 0; k < 3; ++k) {
                forces_[3 * one + k] = needs_energy_ ? physical_forces_[3 * one + k] : 0.0;
            }
        }
        plumed_->send("setPositions", positions_.data());
        plumed_->send("setForces", forces_.data());
    }
    plumed_->send("setMasses", masses_.data());
    plumed_->send("setCharges", charges_.data());
    std::copy_n(&virial_before_[0][0], 9, &virial_after_[0][0]);
    plumed_->send("setVirial", virial_after_);
    if (needs_energy_) {  // PLUMED adds up what the ranks tell
        const double energy = comm->me == 0 ? potential_energy_ : 0.0;
        plumed_->send_value("setEnergy", energy);
    }
    plumed_->send("setStopFlag", &wants_stop_);
    wants_stop_ = 0;
    plumed_->send("shareData");
    // The first force evaluation of a run repeats the last step of the run before: no second hill, no second line.
    const bool is_repeated = update->ntimestep == last_updated_step_;
    plumed_->send(is_repeated ? "performCalcNoUpdate" : "performCalc");
    plumed_->send("getBias", &outcome_.bias);
    outcome_.work = sum_work();
    outcome_.wants_stop = wants_stop_;
}

double FixPlumed::sum_work() const {
    double sum = 0.0;
    for (const double work : work_values_) {
        sum += work;
    }
    return sum * work_unit_;
}

void FixPlumed::add_forces() {
    if (shares_mpi_) {
        return;  // PLUMED wrote to LAMMPS's forces itself
    }
    if (needs_energy_ && runs_here_) {
        for (std::size_t k = 0; k < forces_.size(); ++k) {
            forces_[k] -= physical_forces_[k];
        }
    }
    std::vector<double> owned;
    requested_->scatter(forces_, 3, owned);
    const auto &local = requested_->local();
    for (std::size_t row = 0; row < local.size(); ++row) {
        for (int k = 0; k < 3; ++k) {
            atom->f[local[row]][k] += owned[3 * row + k];
        }
    }
}

void FixPlumed::add_virial() {
    if (!vflag_global || comm->me != 0) {  // LAMMPS adds up the virials of the ranks
        return;
    }
    // xx yy zz xy xz yz. Below the diagonal, where LAMMPS's cell has its tilts: a bias on a direction in space makes a
    // virial that is not symmetric, and only this half is the derivative with respect to the cell.
    const int rows[6] = {0, 1, 2, 1, 2, 2};
    const int columns[6] = {0, 1, 2, 0, 0, 1};
    for (int k = 0; k < 6; ++k) {
        virial[k] -= virial_after_[rows[k]][columns[k]] - virial_before_[rows[k]][columns[k]];
    }
}

double FixPlumed::compute_scalar() {
    return outcome_.bias;
}

double FixPlumed::compute_vector(int index) {
    return index == 0 ? outcome_.bias : outcome_.work;
}

double FixPlumed::memory_usage() {
    return sizeof(double) *
               (positions_.size() + forces_.size() + physical_forces_.size() + masses_.size() + charges_.size()) +
           sizeof(int) * static_cast<double>(wanted_.size() + global_indices_.size());
}
