#include "pair_qnep.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <numeric>
#include <sstream>
#include <utility>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "exceptions.h"
#include "force.h"
#include "group.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

namespace LAMMPS_NS {

namespace {

/// Text of a file, read by one rank and sent to the others; stops LAMMPS if it cannot be read.
std::string read_on_all_ranks(LAMMPS *lammps, const std::string &file, const char *command, const char *kind) {
    std::string text;
    int length = -1;
    if (lammps->comm->me == 0) {
        const std::string path = utils::get_potential_file_path(file);
        std::ifstream stream(path.empty() ? file : path, std::ios::binary);
        std::ostringstream content;
        if (stream && content << stream.rdbuf()) {
            text = content.str();
            length = static_cast<int>(text.size());
        }
    }
    MPI_Bcast(&length, 1, MPI_INT, 0, lammps->world);
    if (length < 0) {
        lammps->error->all(FLERR, "{}: wanted a readable {} file, got {}", command, kind, file);
    }
    text.resize(length);
    MPI_Bcast(text.data(), length, MPI_CHAR, 0, lammps->world);
    return text;
}

std::string joined(const std::vector<std::string> &words) {
    std::string text;
    for (const std::string &word : words) {
        text += (text.empty() ? "" : " ") + word;
    }
    return text;
}

}  // namespace

PairQNEP::PairQNEP(LAMMPS *lammps): Pair(lammps), timer_(lammps) {
    single_enable = 0;
    restartinfo = 0;
    one_coeff = 1;
    manybody_flag = 1;
    no_virial_fdotr_compute = 1;
    centroidstressflag = CENTROID_AVAIL;
    comm_forward = 1;  // a charge
    comm_reverse = 9;  // a force or a Born effective charge
}

PairQNEP::~PairQNEP() {
    if (copymode) {
        return;
    }
    if (allocated) {
        memory->destroy(setflag);
        memory->destroy(cutsq);
    }
}

void PairQNEP::allocate() {
    const int n = atom->ntypes + 1;
    memory->create(setflag, n, n, "pair:setflag");
    memory->create(cutsq, n, n, "pair:cutsq");
    for (int i = 0; i < n; ++i) {
        std::fill_n(setflag[i], n, 0);
    }
    map = new int[n];
    allocated = 1;
}

/// LAMMPS calls it again on the same object when the command is repeated; pair_coeff must follow then.
void PairQNEP::settings(int narg, char **arg) {
    settings_ = parse_qnep_settings(lmp, narg, arg);
    forget_models();
    deviation_file_.reset();
    grade_file_.reset();
    if (settings_.deviation_interval > 0) {
        deviation_file_ = std::make_unique<SummaryFile>(
            lmp, "deviation",
            "Deviation of the forces within the committee, eV/Angstrom: sqrt(mean |F_i - mean F_i|^2)", "deviation",
            settings_.deviation_file, settings_.appends_deviation);
    }
    if (settings_.grade_interval > 0) {
        grade_file_ = std::make_unique<SummaryFile>(
            lmp, "grade", "Extrapolation grade: up to 1 within the training data, larger outside", "grade",
            settings_.grade_file, settings_.appends_deviation);
    }
}

void PairQNEP::forget_models() {
    models_.clear();
    neighbors_.clear();
    active_set_.reset();
    is_evaluated_ = false;
    for (SummaryFile *file : {deviation_file_.get(), grade_file_.get()}) {
        if (file != nullptr) {
            file->forget_last_row();
        }
    }
    for (int i = 1; allocated && i <= atom->ntypes; ++i) {
        std::fill_n(setflag[i], atom->ntypes + 1, 0);
    }
}

/// * * FILE [FILE ...] element-of-type-1 ... element-of-type-N
void PairQNEP::coeff(int narg, char **arg) {
    const int n_files = narg - 2 - atom->ntypes;
    if (n_files < 1) {
        error->all(
            FLERR,
            "pair_coeff for pair_style qnep: wanted * *, at least one model file and {} element(s), one for each "
            "atom type (or NULL), got {} argument(s)",
            atom->ntypes, narg);
    }
    if (!allocated) {
        allocate();
    }
    forget_models();
    map_element2type(atom->ntypes, arg + 2 + n_files);
    for (int k = 0; k < n_files; ++k) {
        add_model(arg[2 + k]);
    }
    check_temperature();
    ewaldflag = pppmflag = has_charges() ? 1 : 0;
    if (settings_.deviation_interval > 0 && n_files < 2) {
        error->all(FLERR, "pair_style qnep, keyword deviation: wanted at least two model files in pair_coeff, got one");
    }
    if (settings_.grade_interval > 0) {
        read_active_set();
    }
}

/// The network of a model of the free energy would take an absent temperature for 0 K, far from its training data. All
/// files are named where none is such a model: one of a committee is enough.
void PairQNEP::check_temperature() {
    std::vector<std::string> files;
    bool is_wanted = false;
    for (const auto &model : models_) {
        const bool wants_temperature = model->model().has_temperature;
        if (wants_temperature && !settings_.has_temperature) {
            error->all(FLERR,
                       "pair_style qnep: wanted the keyword temperature (K) for {}, a model of the free energy ({}), "
                       "got none",
                       model->file(), model->model().token());
        }
        is_wanted |= wants_temperature;
        files.push_back(model->file() + " (" + model->model().token() + ")");
    }
    if (settings_.has_temperature && !is_wanted) {
        error->all(FLERR, "pair_style qnep, keyword temperature: wanted a model of the free energy, got {}",
                   joined(files));
    }
}

void PairQNEP::read_active_set() {
    const std::string text =
        read_on_all_ranks(lmp, settings_.active_set_file, "pair_style qnep, keyword grade", "active-set");
    try {
        active_set_ = std::make_unique<qnep::ActiveSet>(
            qnep::ActiveSet::parse(text, settings_.active_set_file, models_.front()->model()));
    } catch (const std::exception &failure) {
        error->all(FLERR, "pair_style qnep, keyword grade: {}", failure.what());
    }
}

void PairQNEP::add_model(const std::string &file) {
    const std::string text = read_on_all_ranks(lmp, file, "pair_coeff for pair_style qnep", "model");
    std::shared_ptr<qnep::Model> model;
    try {
        model = std::make_shared<qnep::Model>(qnep::parse_model(text, file));
    } catch (const std::exception &failure) {
        error->all(FLERR, "pair_coeff for pair_style qnep: {}", failure.what());
    }
    if (model->kind != qnep::ModelKind::potential) {
        error->all(FLERR, "pair_coeff for pair_style qnep: wanted a model of an energy, got {} with {}", file,
                   model->token());
    }
    auto neighbors = neighbors_for(*model, file);
    cutoff_ = std::max(models_.empty() ? 0.0 : cutoff_, model->largest_cutoff());
    models_.push_back(std::make_unique<DistributedModel>(lmp, file, std::move(model), std::move(neighbors), settings_,
                                                         [this](double *values) { share_with_ghosts(values); }));
}

std::shared_ptr<TypedNeighbors> PairQNEP::neighbors_for(const qnep::Model &model, const std::string &file) {
    std::vector<int> type_map(atom->ntypes + 1, -1);
    for (int type = 1; type <= atom->ntypes; ++type) {
        if (map[type] < 0) {
            continue;  // NULL
        }
        const auto found = std::find(model.elements.begin(), model.elements.end(), elements[map[type]]);
        if (found == model.elements.end()) {
            error->all(FLERR, "pair_coeff for pair_style qnep: wanted an element of {} ({}) for atom type {}, got {}",
                       file, joined(model.elements), type, elements[map[type]]);
        }
        type_map[type] = static_cast<int>(found - model.elements.begin());
    }
    for (const auto &known : neighbors_) {
        if (known->type_map() == type_map) {
            return known;
        }
    }
    neighbors_.push_back(std::make_shared<TypedNeighbors>(std::move(type_map), model.n_types()));
    return neighbors_.back();
}

bool PairQNEP::drives_charges() const {
    return !models_.empty() && models_.front()->model().has_charges();
}

bool PairQNEP::has_charges() const {
    return std::any_of(models_.begin(), models_.end(), [](const auto &model) { return model->model().has_charges(); });
}

void PairQNEP::init_style() {
    const bool is_real = std::strcmp(update->unit_style, "real") == 0;
    if (!is_real && std::strcmp(update->unit_style, "metal") != 0) {
        error->all(FLERR, "pair_style qnep: wanted units metal or real, got units {}", update->unit_style);
    }
    if (force->newton_pair == 0) {
        error->all(FLERR, "pair_style qnep: wanted newton on, got newton off");
    }
    energy_unit_ = is_real ? utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL) : 1.0;
    if (has_charges()) {
        check_charges_possible();
    }
    check_special_bonds();
    check_exclusions();
    neighbor->add_request(this, NeighConst::REQ_FULL);
    for (const auto &model : models_) {
        model->init();
    }
    is_evaluated_ = false;
    n_list_builds_ = -1;
    deviation_step_ = grade_step_ = -1;
    timer_.reset();
}

void PairQNEP::check_charges_possible() {
    if (!atom->q_flag) {
        error->all(FLERR,
                   "pair_style qnep: wanted an atom style with charges (atom_style charge) for a qNEP model, got "
                   "atom_style {}",
                   atom->atom_style);
    }
    if (force->kspace != nullptr) {
        error->all(FLERR,
                   "pair_style qnep brings its own k-space solver (keyword kspace): wanted kspace_style none, got {}",
                   force->kspace_style);
    }
    const bool is_periodic_in_plane = domain->xperiodic && domain->yperiodic;
    if (settings_.has_slab() ? !is_periodic_in_plane || domain->zperiodic : domain->nonperiodic != 0) {
        char boundary[9];
        domain->boundary_string(boundary);
        error->all(FLERR, "pair_style qnep: wanted boundary {} for a qNEP model {} the keyword slab, got boundary {}",
                   settings_.has_slab() ? "p p f" : "p p p", settings_.has_slab() ? "with" : "without", boundary);
    }
}

/// Pairs whose special_bonds factors are both zero are not in the neighbour list at all. Pairs with an atom that is
/// not part of the model may be missing there, as those within a molecule of another force field.
void PairQNEP::check_special_bonds() {
    const auto is_excluded = [&](int k) { return force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0; };
    if (atom->nbonds == 0 || !(is_excluded(1) || is_excluded(2) || is_excluded(3))) {
        return;
    }
    bool misses_neighbors = true;  // molecules by template: nothing is known of single atoms
    if (atom->molecular == Atom::MOLECULAR) {
        std::vector<tagint> atoms, partners;
        for (int i = 0; i < atom->nlocal; ++i) {
            if (map[atom->type[i]] < 0) {
                continue;
            }
            const std::size_t n_before = partners.size();
            for (int k = 1; k <= 3; ++k) {
                if (is_excluded(k)) {
                    const int first = k == 1 ? 0 : atom->nspecial[i][k - 2];
                    partners.insert(partners.end(), atom->special[i] + first,
                                    atom->special[i] + atom->nspecial[i][k - 1]);
                }
            }
            if (partners.size() > n_before) {
                atoms.push_back(atom->tag[i]);
            }
        }
        misses_neighbors = holds_any_of(atoms, partners);
    }
    if (misses_neighbors) {
        error->all(FLERR, "pair_style qnep: wanted special_bonds lj/coul 1 1 1 where atoms of the model are bonded, "
                          "because a many-body model needs all neighbours; got factors of zero");
    }
}

/// Whether an atom that any rank has put into `atoms` is among the `partners` of any rank.
bool PairQNEP::holds_any_of(std::vector<tagint> &atoms, const std::vector<tagint> &partners) const {
    int n_mine = static_cast<int>(atoms.size());
    std::vector<int> counts(comm->nprocs), starts(comm->nprocs, 0);
    MPI_Allgather(&n_mine, 1, MPI_INT, counts.data(), 1, MPI_INT, world);
    std::partial_sum(counts.begin(), counts.end() - 1, starts.begin() + 1);
    std::vector<tagint> all(starts.back() + counts.back());
    MPI_Allgatherv(atoms.data(), n_mine, MPI_LMP_TAGINT, all.data(), counts.data(), starts.data(), MPI_LMP_TAGINT,
                   world);
    std::sort(all.begin(), all.end());
    int found = std::any_of(partners.begin(), partners.end(),
                            [&](tagint partner) { return std::binary_search(all.begin(), all.end(), partner); });
    MPI_Allreduce(MPI_IN_PLACE, &found, 1, MPI_INT, MPI_MAX, world);
    return found != 0;
}

/// What `neigh_modify exclude` and `include` leave out is not in the neighbour list either. A group without atoms of
/// the model does no harm: fix gcmc has one.
void PairQNEP::check_exclusions() const {
    bool misses_neighbors = false;
    for (int k = 0; k < neighbor->nex_type; ++k) {
        misses_neighbors |= map[neighbor->ex1_type[k]] >= 0 && map[neighbor->ex2_type[k]] >= 0;
    }
    // By group, because LAMMPS sets the bits of the lists later.
    const auto holds_model_atoms = [&](int of_group) { return has_model_atoms(group->bitmask[of_group], true); };
    for (int k = 0; k < neighbor->nex_group; ++k) {
        misses_neighbors |= holds_model_atoms(neighbor->ex1_group[k]) && holds_model_atoms(neighbor->ex2_group[k]);
    }
    for (int k = 0; k < neighbor->nex_mol; ++k) {
        misses_neighbors |= holds_model_atoms(neighbor->ex_mol_group[k]);
    }
    const bool has_include = neighbor->includegroup != 0;
    misses_neighbors |= has_include && has_model_atoms(group->bitmask[neighbor->includegroup], false);
    if (misses_neighbors) {
        error->all(FLERR,
                   "pair_style qnep: wanted all neighbours of the atoms of the model, because a many-body model needs "
                   "them, got neigh_modify {}: to freeze atoms leave them out of the fix that integrates, or set "
                   "their forces to zero by fix setforce",
                   has_include ? "include" : "exclude");
    }
}

/// Whether any rank has atoms of the model inside or outside a group.
bool PairQNEP::has_model_atoms(int group_bit, bool inside) const {
    int found = 0;
    for (int i = 0; i < atom->nlocal && found == 0; ++i) {
        found = map[atom->type[i]] >= 0 && ((atom->mask[i] & group_bit) != 0) == inside;
    }
    MPI_Allreduce(MPI_IN_PLACE, &found, 1, MPI_INT, MPI_MAX, world);
    return found != 0;
}

double PairQNEP::init_one(int i, int j) {
    if (setflag[i][j] == 0) {
        error->all(FLERR, "pair_style qnep: wanted one pair_coeff * * command, got none for types {} and {}", i, j);
    }
    return cutoff_;
}

/// For a kspace_style beside a qNEP model LAMMPS would only say "incompatible"; this lets it come to init_style(),
/// which says what to do. Below a hybrid style the solver belongs to another sub-style, with a cutoff of its own.
void *PairQNEP::extract(const char *name, int &dim) {
    dim = 0;
    const bool is_asked = std::strcmp(name, "cut_coul") == 0 && force->pair == this && has_charges();
    return is_asked ? &cutoff_ : nullptr;
}

const tagint *PairQNEP::ids() {
    return atom->tag;
}

/// Turns exceptions of the core into LAMMPS errors, so that none crosses MPI; LAMMPS's own pass.
void PairQNEP::without_exceptions(const std::function<void()> &action) {
    try {
        action();
    } catch (const LAMMPSException &) {
        throw;
    } catch (const qnep::CoincidentAtoms &failure) {
        const tagint *const id = ids();
        error->one(FLERR, "pair_style qnep: atoms with ids {} and {} are at the same place", id[failure.first],
                   id[failure.second]);
    } catch (const std::exception &failure) {
        error->one(FLERR, "pair_style qnep: {}", failure.what());
    }
}

/// LAMMPS counts its builds, which also shows a build whose forces were never asked for.
void PairQNEP::update_neighbors() {
    const bool is_current = neighbor->ncalls == n_list_builds_ && neighbor->ago != 0 &&
                            neighbors_.front()->n_total() == atom->nlocal + atom->nghost &&
                            std::all_of(neighbors_.begin(), neighbors_.end(),
                                        [&](const auto &neighbors) { return neighbors->has_types_of(*atom); });
    if (is_current) {
        return;
    }
    for (const auto &neighbors : neighbors_) {
        neighbors->update(*atom, *list);
    }
    n_list_builds_ = neighbor->ncalls;
}

void PairQNEP::compute(int eflag, int vflag) {
    ev_init(eflag, vflag);
    WantedResults wanted;
    wanted.virial = vflag_global != 0;
    wanted.atom_virials = vflag_atom != 0 || cvflag_atom != 0;
    timer_.start();
    without_exceptions([&] {
        update_neighbors();
        timer_.lap(Stage::neighbors);
        models_.front()->evaluate(wanted, timer_);
    });
    mark_evaluated();
    const double *const first = atom->nlocal > 0 ? &atom->x[0][0] : nullptr;
    evaluated_positions_.assign(first, first + 3 * static_cast<std::size_t>(atom->nlocal));
    store_charges();
    add_forces();
    add_energies();
    add_virials();
    write_summaries(models_.front()->neighbors().types());
}

void PairQNEP::mark_evaluated() {
    is_evaluated_ = true;
    deviation_step_ = grade_step_ = -1;
    n_builds_evaluated_ = neighbor->ncalls;
    n_evaluated_ = {atom->nlocal, atom->nghost};
}

bool PairQNEP::is_evaluated() {
    constexpr int no_run = 0;
    int is_of_now = is_evaluated_ && n_builds_evaluated_ == neighbor->ncalls &&
                    n_evaluated_ == std::array<int, 2>{atom->nlocal, atom->nghost} &&
                    (update->whichflag != no_run || has_evaluated_positions());
    MPI_Allreduce(MPI_IN_PLACE, &is_of_now, 1, MPI_INT, MPI_MIN, world);
    return is_of_now != 0;
}

bool PairQNEP::has_evaluated_positions() const {
    const double *const first = atom->nlocal > 0 ? &atom->x[0][0] : nullptr;
    return neighbors_.front()->has_types_of(*atom) &&
           std::equal(evaluated_positions_.begin(), evaluated_positions_.end(), first);
}

/// Where the atoms are, in a few numbers that depend neither on their order nor on the images that are stored.
SummaryFile::Place PairQNEP::place() const {
    constexpr double golden_ratio = 1.618033988749895;  // weights that hardly repeat, so that exchanged atoms are seen
    SummaryFile::Place place{};
    for (int i = 0; i < atom->nlocal; ++i) {
        const double weight = std::fmod(golden_ratio * static_cast<double>(atom->tag[i]), 1.0) - 0.5;
        double position[3];
        domain->unmap(atom->x[i], atom->image[i], position);
        for (int d = 0; d < 3; ++d) {
            place[d] += weight * position[d];
        }
    }
    MPI_Allreduce(MPI_IN_PLACE, place.data(), 3, MPI_DOUBLE, MPI_SUM, world);
    MPI_Bcast(place.data(), 3, MPI_DOUBLE, 0, world);  // the same bits, so that all ranks decide alike
    std::copy_n(domain->h, 6, place.begin() + 3);
    return place;
}

bool PairQNEP::is_summary_step() const {
    return (deviation_file_ && update->ntimestep % settings_.deviation_interval == 0) ||
           (grade_file_ && update->ntimestep % settings_.grade_interval == 0);
}

void PairQNEP::write_summaries(const std::vector<int> &elements) {
    if (deviation_file_ && update->ntimestep % settings_.deviation_interval == 0) {
        deviation_file_->write(update->ntimestep, place(), deviations(), elements);
    }
    if (grade_file_ && update->ntimestep % settings_.grade_interval == 0) {
        grade_file_->write(update->ntimestep, place(), grades(), elements);
    }
}

void PairQNEP::store_charges() {
    if (!models_.front()->model().has_charges()) {
        return;
    }
    const std::vector<double> &charges = models_.front()->charges();
    const std::vector<int> &types = models_.front()->neighbors().types();
    for (std::size_t i = 0; i < charges.size(); ++i) {
        if (types[i] >= 0) {
            atom->q[i] = charges[i];
        }
    }
}

void PairQNEP::add_forces() {
    const std::vector<double> &forces = models_.front()->forces();
    if (forces.empty()) {
        return;
    }
    double *const sum = &atom->f[0][0];
    for (std::size_t k = 0; k < forces.size(); ++k) {
        sum[k] += energy_unit_ * forces[k];
    }
}

void PairQNEP::add_energies() {
    if (!eflag_either) {
        return;
    }
    const std::vector<double> &sites = models_.front()->site_energies();
    const std::vector<double> &coulomb = models_.front()->coulomb_energies();
    for (std::size_t i = 0; i < sites.size(); ++i) {
        if (eflag_global) {
            eng_vdwl += energy_unit_ * sites[i];
            eng_coul += energy_unit_ * coulomb[i];
        }
        if (eflag_atom) {
            eatom[i] += energy_unit_ * (sites[i] + coulomb[i]);
        }
    }
}

void PairQNEP::add_virials() {
    static constexpr int row_major[9] = {0, 4, 8, 1, 2, 5, 3, 6, 7};  // of xx yy zz xy xz yz yx zx zy
    if (vflag_global) {
        const double *total = models_.front()->virial();
        for (int c = 0; c < 6; ++c) {
            virial[c] += energy_unit_ * total[row_major[c]];
        }
    }
    const std::vector<double> &of_atoms = models_.front()->atom_virials();
    for (std::size_t i = 0; 9 * i < of_atoms.size(); ++i) {
        const double *w = &of_atoms[9 * i];
        for (int c = 0; c < 9 && cvflag_atom; ++c) {
            cvatom[i][c] += energy_unit_ * w[row_major[c]];
        }
        for (int c = 0; c < 3 && vflag_atom; ++c) {
            vatom[i][c] += energy_unit_ * w[row_major[c]];
            vatom[i][3 + c] += 0.5 * energy_unit_ * (w[row_major[3 + c]] + w[row_major[6 + c]]);
        }
    }
}

const std::vector<double> &PairQNEP::potentials() {
    return models_.front()->potentials();
}

void PairQNEP::set_charge_response(DistributedModel::ChargeResponse response) {
    models_.front()->set_charge_response(std::move(response));
}

const std::vector<double> &PairQNEP::deviations() {
    if (deviation_step_ == update->ntimestep) {
        return deviations_;
    }
    timer_.start();
    StageTimer ignored(lmp);
    std::vector<std::vector<double>> forces;
    for (const auto &model : models_) {
        if (model != models_.front()) {
            without_exceptions([&] { model->evaluate(WantedResults(), ignored); });
        }
        forces.push_back(model->forces());
        sum_back_from_ghosts(forces.back().data(), 3);
    }
    deviations_ = force_deviations(forces, atom->nlocal);
    deviation_step_ = update->ntimestep;
    timer_.lap(Stage::deviation);
    return deviations_;
}

const std::vector<double> &PairQNEP::grades() {
    if (grade_step_ != update->ntimestep) {
        timer_.start();
        without_exceptions([&] { models_.front()->extrapolation_grades(*active_set_, grades_); });
        grade_step_ = update->ntimestep;
        timer_.lap(Stage::deviation);
    }
    return grades_;
}

void PairQNEP::share_with_ghosts(double *values) {
    ghost_values_ = values;
    comm->forward_comm(this);
}

int PairQNEP::pack_forward_comm(int n, int *atoms, double *buffer, int /*pbc_flag*/, int * /*pbc*/) {
    for (int k = 0; k < n; ++k) {
        buffer[k] = ghost_values_[atoms[k]];
    }
    return n;
}

void PairQNEP::unpack_forward_comm(int n, int first, double *buffer) {
    std::copy_n(buffer, n, ghost_values_ + first);
}

void PairQNEP::sum_back_from_ghosts(double *values, int width) {
    ghost_values_ = values;
    ghost_width_ = width;
    comm->reverse_comm(this, width);
}

const std::vector<double> &PairQNEP::born_effective_charges() {
    without_exceptions([&] { models_.front()->born_effective_charges(born_charges_); });
    sum_back_from_ghosts(born_charges_.data(), 9);
    return born_charges_;
}

int PairQNEP::pack_reverse_comm(int n, int first, double *buffer) {
    const std::size_t width = ghost_width_;
    std::copy_n(ghost_values_ + width * first, width * n, buffer);
    return ghost_width_ * n;
}

void PairQNEP::unpack_reverse_comm(int n, int *atoms, double *buffer) {
    const std::size_t width = ghost_width_;
    for (int k = 0; k < n; ++k) {
        for (std::size_t c = 0; c < width; ++c) {
            ghost_values_[width * atoms[k] + c] += buffer[width * k + c];
        }
    }
}

void PairQNEP::finish() {
    if (settings_.shows_timing) {
        timer_.report();
    }
}

double PairQNEP::memory_usage() {
    double bytes = Pair::memory_usage();
    for (const auto &neighbors : neighbors_) {
        bytes += neighbors->memory_usage();
    }
    for (const auto &model : models_) {
        bytes += model->memory_usage();
    }
    return bytes;
}

}  // namespace LAMMPS_NS
