#include "pair_qnep_kokkos.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>

#include "array_kernels.h"
#include "atom_kokkos.h"
#include "atom_masks.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "kokkos.h"
#include "neigh_list_kokkos.h"
#include "neigh_request.h"
#include "neighbor.h"
#include "update.h"

namespace LAMMPS_NS {

namespace {

/// Version and device of the Kokkos library in this process, from its own report: "4.5.1 for OpenMP".
std::string running_kokkos() {
    if (!Kokkos::is_initialized()) {
        return "of its own, which the plugin does not see";
    }
    std::ostringstream report;
    Kokkos::print_configuration(report);
    const std::string text = report.str();
    const auto entry = [&](const std::string &name) {
        const std::size_t begin = text.find(name + ": ");
        const std::size_t end = text.find('\n', begin);
        return begin == std::string::npos ? "?" : text.substr(begin + name.size() + 2, end - begin - name.size() - 2);
    };
    return entry("Kokkos Version") + " for " + entry("Default Device");
}

// In reserve(): packed_, charges_, their derivatives, energies and potentials, forces.
constexpr std::size_t numbers_per_atom = 4 + 2 + 1 + 3 + 3;

/// Rows [0, n) of an array on the device as one on the host.
template <class View>
auto on_host(const View &view, int n) {
    if constexpr (View::rank == 1) {
        return Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), Kokkos::subview(view, std::make_pair(0, n)));
    } else {
        return Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(),
                                                   Kokkos::subview(view, std::make_pair(0, n), Kokkos::ALL));
    }
}

/// The counterpart of on_host; copies nothing where both are the same memory.
template <class View, class HostView>
void to_device(const View &view, const HostView &values) {
    const auto n = std::make_pair(0, static_cast<int>(values.extent(0)));
    if constexpr (View::rank == 1) {
        Kokkos::deep_copy(Kokkos::subview(view, n), values);
    } else {
        Kokkos::deep_copy(Kokkos::subview(view, n, Kokkos::ALL), values);
    }
}

}  // namespace

template <class DeviceType>
PairQNEPKokkos<DeviceType>::PairQNEPKokkos(LAMMPS *lammps): PairQNEP(lammps) {
    if (lmp->kokkos == nullptr || lmp->kokkos->kokkos_exists == 0) {
        error->all(FLERR, "pair_style qnep/kk: wanted a LAMMPS that was started with -k on, got one without");
    }
    const std::string compiled = fmt::format("{}.{}.{} for {}", KOKKOS_VERSION / 10000, KOKKOS_VERSION / 100 % 100,
                                             KOKKOS_VERSION % 100, Kokkos::DefaultExecutionSpace::name());
    const std::string running = running_kokkos();
    if (compiled != running) {
        error->all(FLERR,
                   "pair_style qnep/kk: the plugin was compiled against Kokkos {}, this LAMMPS runs Kokkos {}: build "
                   "plugins/lammps_kokkos with the Kokkos_ROOT of this LAMMPS",
                   compiled, running);
    }
    kokkosable = 1;
    respa_enable = 0;
    atomKK = static_cast<AtomKokkos *>(atom);
    execution_space = ExecutionSpaceFromDevice<DeviceType>::space;
    datamask_read = X_MASK | F_MASK | TYPE_MASK | Q_MASK | ENERGY_MASK | VIRIAL_MASK;
    datamask_modify = F_MASK | Q_MASK | ENERGY_MASK | VIRIAL_MASK;
}

/// The keywords of the host style, with `precision mixed` as another name of its `precision single`; and `kspace_on`.
template <class DeviceType>
void PairQNEPKokkos<DeviceType>::settings(int narg, char **arg) {
    std::vector<char *> words(arg, arg + narg);
    std::string single = "single";
    mesh_on_device_ = true;
    const auto is_kspace_on = [](const char *word) { return std::strcmp(word, "kspace_on") == 0; };
    for (auto word = words.begin(); (word = std::find_if(word, words.end(), is_kspace_on)) != words.end();) {
        const std::string value = word + 1 == words.end() ? "nothing" : word[1];
        if (value != "device" && value != "host") {
            error->all(FLERR, "pair_style qnep/kk, keyword kspace_on: wanted device or host, got {}", value);
        }
        mesh_on_device_ = value == "device";
        word = words.erase(word, word + 2);
    }
    for (std::size_t k = 1; k < words.size(); ++k) {
        if (std::strcmp(words[k - 1], "precision") == 0 && std::strcmp(words[k], "mixed") == 0) {
            words[k] = single.data();
        }
    }
    PairQNEP::settings(static_cast<int>(words.size()), words.data());
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::coeff(int narg, char **arg) {
    device_models_.clear();
    PairQNEP::coeff(narg, arg);
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::init_style() {
    if (force->newton_pair == 0) {
        error->all(FLERR, "pair_style qnep/kk: wanted newton on, got newton off: give the option -pk kokkos newton on "
                          "neigh half");
    }
    PairQNEP::init_style();
    // DomainKokkos makes the fractional coordinates that a mesh works with on the device, whoever asks.
    constexpr bool works_on_device = std::is_same_v<DeviceType, LMPDeviceType>;
    constexpr bool shares_memory =
        Kokkos::SpaceAccessibility<Kokkos::HostSpace, typename LMPDeviceType::memory_space>::accessible;
    const bool has_mesh_on_host = settings_.kspace == KSpaceMethod::pppm && !(works_on_device && has_mesh_on_device());
    if (!shares_memory && domain->triclinic != 0 && has_charges() && has_mesh_on_host) {
        error->all(FLERR, "pair_style qnep/kk with a device that has its own memory: wanted the mesh on the device, "
                          "kspace ewald or kspace direct in a triclinic box, got kspace pppm on the host");
    }
    const bool has_mesh = settings_.kspace == KSpaceMethod::pppm && has_charges();
    if (has_mesh && !has_mesh_on_host && comm->style == Comm::TILED && comm->nprocs > 1) {
        // LAMMPS takes them, and its mesh on the device then gives forces that are off by 0.1 eV/Å.
        error->all(FLERR, "pair_style qnep/kk: wanted comm_style brick for a mesh on the device, got comm_style tiled: "
                          "take kspace_on host or kspace direct with it");
    }
    NeighRequest *request = neighbor->find_request(this);
    constexpr bool is_device = std::is_same_v<DeviceType, LMPDeviceType>;
    request->set_kokkos_device(is_device);
    request->set_kokkos_host(!is_device);
    request->enable_full();
    without_exceptions([&] { make_device_models(); });
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::make_device_models() {
    device_models_.clear();
    for (const auto &model : models_) {
        DeviceModel made;
        made.evaluation = qnep::make_device_evaluation<DeviceType>(model->model(), settings_.potential.precision,
                                                                   settings_.potential.temperature);
        if (model->model().has_charges() && has_mesh_on_device()) {
            made.device_sum = std::make_unique<DeviceReciprocalSum<DeviceType>>(
                lmp, settings_, model->model().ewald_alpha(), model->model().largest_cutoff());
        } else if (model->model().has_charges()) {
            made.host_sum = make_reciprocal_sum(lmp, settings_, model->model());
        }
        const std::vector<int> &types = model->neighbors().type_map();
        made.type_map = Kokkos::View<int *, DeviceType>("qnep:type_map", types.size());
        to_device(made.type_map, Kokkos::View<const int *, Kokkos::HostSpace>(types.data(), types.size()));
        device_models_.push_back(std::move(made));
    }
}

/// Arrays for as many atoms as LAMMPS has room for.
template <class DeviceType>
void PairQNEPKokkos<DeviceType>::reserve() {
    const auto n = static_cast<std::size_t>(atom->nmax);
    if (packed_.extent(0) == n) {
        return;
    }
    packed_ = {};
    results_.virials = {};
    try {
        packed_ = decltype(packed_)(Kokkos::view_alloc("qnep:packed", Kokkos::WithoutInitializing), n);
        charges_ = decltype(charges_)("qnep:charges", n);
        charge_derivatives_ = Vector("qnep:charge_derivatives", n);
        results_.site_energies = Vector("qnep:site_energies", n);
        results_.coulomb_energies = Vector("qnep:coulomb_energies", n);
        results_.potentials = Vector("qnep:potentials", n);
        results_.forces = decltype(results_.forces)("qnep:forces", n);
    } catch (const std::exception &failure) {
        throw qnep::too_little_memory(numbers_per_atom * sizeof(double), n, failure);
    }
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::clear(bool wants_atom_virials) {
    // Below a hybrid style the passes do not come to atoms without a model, in whose place another atom may have been.
    Kokkos::deep_copy(results_.site_energies, 0.0);
    Kokkos::deep_copy(results_.coulomb_energies, 0.0);
    Kokkos::deep_copy(results_.potentials, 0.0);
    Kokkos::deep_copy(results_.forces, 0.0);
    if (!wants_atom_virials) {
        results_.virials = {};
    } else if (results_.virials.extent(0) != results_.forces.extent(0)) {
        results_.virials = decltype(results_.virials)("qnep:virials", results_.forces.extent(0));
    } else {
        Kokkos::deep_copy(results_.virials, 0.0);
    }
}

template <class DeviceType>
qnep::DeviceAtoms<DeviceType> PairQNEPKokkos<DeviceType>::atoms_of(const DeviceModel &model) {
    const auto *lists = static_cast<NeighListKokkos<DeviceType> *>(list);
    qnep::DeviceAtoms<DeviceType> atoms;
    atoms.n_owned = atom->nlocal;
    atoms.n_total = atom->nlocal + atom->nghost;
    atoms.n_lists = lists->inum;
    atoms.owned = lists->d_ilist;
    atoms.counts = lists->d_numneigh;
    atoms.neighbors = lists->d_neighbors;
    atoms.neighbor_mask = NEIGHMASK;
    qnep::pack_atoms<DeviceType>(atoms.n_total, atomKK->k_x.template view<DeviceType>(),
                                 atomKK->k_type.template view<DeviceType>(), model.type_map, packed_);
    atoms.packed = packed_;
    return atoms;
}

/// Commands between two runs work on the host, and LAMMPS takes what they did to the device when the next run begins.
template <class DeviceType>
bool PairQNEPKokkos<DeviceType>::has_evaluated_positions() const {
    const auto packed = on_host(packed_, atom->nlocal);
    const std::vector<int> &type_map = models_.front()->neighbors().type_map();
    for (int i = 0; i < atom->nlocal; ++i) {
        for (int d = 0; d < 3; ++d) {
            if (packed(i, d) != atom->x[i][d]) {
                return false;
            }
        }
        if (packed(i, 3) != type_map[atom->type[i]]) {
            return false;
        }
    }
    return true;
}

template <class DeviceType>
const tagint *PairQNEPKokkos<DeviceType>::ids() {
    atomKK->sync(Host, TAG_MASK);
    return atom->tag;
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::compute(int eflag, int vflag) {
    ev_init(eflag, vflag);
    atomKK->sync(execution_space, datamask_read);
    const bool wants_atom_virials = vflag_atom != 0 || cvflag_atom != 0;
    Totals totals;
    timer_.start();
    without_exceptions([&] { totals = evaluate(0, vflag_global != 0, wants_atom_virials, true); });
    mark_evaluated();
    has_driving_results_ = false;
    if (models_.front()->model().has_charges()) {
        store_charges(atoms_);
    }
    add_forces();
    atomKK->modified(execution_space, datamask_modify);
    add_totals(totals);
    add_atom_energies();
    add_atom_virials();
    if (is_summary_step()) {
        atomKK->sync(Host, X_MASK | IMAGE_MASK | TAG_MASK);
        write_summaries(elements_of_driving_model());
    }
}

/// Leaves the results in results_ and charges_.
template <class DeviceType>
typename PairQNEPKokkos<DeviceType>::Totals
PairQNEPKokkos<DeviceType>::evaluate(std::size_t k, bool wants_virial, bool wants_atom_virials, bool responds) {
    DeviceModel &model = device_models_[k];
    const qnep::Model &parameters = models_[k]->model();
    Totals totals;
    reserve();
    clear(wants_atom_virials);
    const qnep::DeviceAtoms<DeviceType> atoms = atoms_of(model);
    atoms_ = atoms;
    timer_.lap(Stage::neighbors);
    charges_.template modify<DeviceType>();
    const Vector charges = charges_.template view<DeviceType>();
    const qnep::NetworkSums sums = model.evaluation->network_pass(atoms, results_.site_energies, charges);
    totals.site_energy = sums.energy;
    timer_.lap(Stage::network);
    const auto add_virial = [&](const qnep::ForceSums &from) {
        for (int c = 0; c < 6; ++c) {
            totals.virial[c] += from.virial[c];
        }
    };
    Vector derivatives;
    if (parameters.has_charges()) {
        const bool has_coulomb_energy = neutralize(atoms, sums, totals);
        timer_.lap(Stage::charges);
        share_charges();
        timer_.lap(Stage::communication);
        if (has_coulomb_energy) {
            add_reciprocal_sum(model, wants_virial, wants_atom_virials, totals);
            timer_.lap(Stage::kspace);
        }
        if (has_coulomb_energy && parameters.charge_mode == 1) {
            const qnep::ForceSums coulomb = model.evaluation->coulomb_pass(atoms, charges, results_);
            totals.coulomb_energy += coulomb.energy;
            add_virial(coulomb);
            timer_.lap(Stage::charges);
        }
        Kokkos::deep_copy(charge_derivatives_, results_.potentials);
        if (responds && models_[k]->charge_response()) {
            add_charge_response(models_[k]->charge_response());
        }
        remove_means(atoms, totals);
        timer_.lap(Stage::communication);
        derivatives = charge_derivatives_;
    }
    add_virial(model.evaluation->force_pass(atoms, derivatives, results_));
    timer_.lap(Stage::forces);
    return totals;
}

template <class DeviceType>
bool PairQNEPKokkos<DeviceType>::neutralize(const qnep::DeviceAtoms<DeviceType> &atoms, const qnep::NetworkSums &sums,
                                            Totals &totals) {
    double all[3] = {sums.charge, sums.square, sums.n_atoms};
    MPI_Allreduce(MPI_IN_PLACE, all, 3, MPI_DOUBLE, MPI_SUM, world);
    totals.n_atoms = all[2];
    if (totals.n_atoms == 0.0) {
        return false;
    }
    const double shift = (settings_.total_charge - all[0]) / totals.n_atoms;
    qnep::shift_charges<DeviceType>(atoms, shift, charges_.template view<DeviceType>());
    const double mean_square = (all[1] + 2.0 * shift * all[0]) / totals.n_atoms + shift * shift;
    totals.square_charge = mean_square * totals.n_atoms;
    return mean_square > negligible_square_charge;
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::share_charges() {
    comm->forward_comm(this);
    charges_.template sync<DeviceType>();
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::add_reciprocal_sum(const DeviceModel &model, bool wants_virial,
                                                    bool wants_atom_virials, Totals &totals) {
    if (!model.device_sum) {
        add_reciprocal_sum_of_host(model, wants_virial, wants_atom_virials, totals);
        return;
    }
    model.device_sum->set_cell(cell_of(*domain));
    const auto sums =
        model.device_sum->compute_on_device(atom->nlocal, charges_.template view<DeviceType>(), settings_.total_charge,
                                            totals.square_charge, results_, wants_virial, wants_atom_virials);
    totals.coulomb_energy += sums.energy;
    for (int d = 0; d < 3; ++d) {
        totals.mesh_force[d] += sums.force[d];
    }
    for (int c = 0; c < 6 && comm->me == 0; ++c) {
        totals.virial[c] += sums.virial[c];
    }
}

/// With positions and charges of the owned atoms.
template <class DeviceType>
void PairQNEPKokkos<DeviceType>::add_reciprocal_sum_of_host(const DeviceModel &model, bool wants_virial,
                                                            bool wants_atom_virials, Totals &totals) {
    const int n = atom->nlocal;
    const auto charges = on_host(charges_.template view<DeviceType>(), n);
    const auto energies = on_host(results_.coulomb_energies, n);
    const auto potentials = on_host(results_.potentials, n);
    const auto forces = on_host(results_.forces, n);
    const auto virials = on_host(results_.virials, wants_atom_virials ? n : 0);
    qnep::ReciprocalOutput output;
    output.site_energies = energies.data();
    output.potentials = potentials.data();
    output.forces = forces.data();
    double whole_virial[9] = {};
    double no_virials[9];  // a null pointer would mean: not wanted; ranks without atoms must not disagree about it
    output.virial = wants_virial ? whole_virial : nullptr;
    output.atom_virials = wants_atom_virials ? (n > 0 ? virials.data() : no_virials) : nullptr;
    atomKK->sync(Host, X_MASK | TYPE_MASK);
    model.host_sum->set_cell(cell_of(*domain));
    model.host_sum->compute(n, n > 0 ? &atom->x[0][0] : nullptr, charges.data(), output);
    for (int i = 0; i < n; ++i) {
        totals.coulomb_energy += energies(i);
        for (int d = 0; d < 3; ++d) {
            totals.mesh_force[d] += forces(i, d);
        }
    }
    static constexpr int row_major[6] = {0, 4, 8, 1, 2, 5};  // of xx yy zz xy xz yz
    for (int c = 0; c < 6 && comm->me == 0; ++c) {
        totals.virial[c] += whole_virial[row_major[c]];
    }
    to_device(results_.coulomb_energies, energies);
    to_device(results_.potentials, potentials);
    to_device(results_.forces, forces);
    if (wants_atom_virials) {
        to_device(results_.virials, virials);
    }
}

/// Who responds works on the host.
template <class DeviceType>
void PairQNEPKokkos<DeviceType>::add_charge_response(const DistributedModel::ChargeResponse &response) {
    const auto charges = on_host(charges_.template view<DeviceType>(), atom->nlocal);
    const auto derivatives = on_host(charge_derivatives_, atom->nlocal);
    response(charges.data(), derivatives.data());
    to_device(charge_derivatives_, derivatives);
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::remove_means(const qnep::DeviceAtoms<DeviceType> &atoms, const Totals &totals) {
    double sums[4] = {totals.mesh_force[0], totals.mesh_force[1], totals.mesh_force[2],
                      qnep::sum_over_model<DeviceType>(atoms, charge_derivatives_)};
    MPI_Allreduce(MPI_IN_PLACE, sums, 4, MPI_DOUBLE, MPI_SUM, world);
    const double inverse_count = totals.n_atoms > 0.0 ? 1.0 / totals.n_atoms : 0.0;
    const double mean_derivative = settings_.corrects_mean ? sums[3] * inverse_count : 0.0;
    const double scale = settings_.removes_net_force ? inverse_count : 0.0;
    qnep::subtract_means<DeviceType>(atoms, mean_derivative, {sums[0] * scale, sums[1] * scale, sums[2] * scale},
                                     charge_derivatives_, results_.forces);
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::store_charges(const qnep::DeviceAtoms<DeviceType> &atoms) {
    qnep::copy_charges<DeviceType>(atoms, charges_.template view<DeviceType>(),
                                   atomKK->k_q.template view<DeviceType>());
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::add_forces() {
    qnep::add_scaled<DeviceType>(atom->nlocal + atom->nghost, energy_unit_, results_.forces,
                                 atomKK->k_f.template view<DeviceType>());
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::add_totals(const Totals &totals) {
    if (eflag_global) {
        eng_vdwl += energy_unit_ * totals.site_energy;
        eng_coul += energy_unit_ * totals.coulomb_energy;
    }
    for (int c = 0; c < 6 && vflag_global; ++c) {
        virial[c] += energy_unit_ * totals.virial[c];
    }
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::add_atom_energies() {
    if (!eflag_atom) {
        return;
    }
    const auto sites = on_host(results_.site_energies, atom->nlocal);
    const auto coulomb = on_host(results_.coulomb_energies, atom->nlocal);
    for (int i = 0; i < atom->nlocal; ++i) {
        eatom[i] += energy_unit_ * (sites(i) + coulomb(i));
    }
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::add_atom_virials() {
    static constexpr int row_major[9] = {0, 4, 8, 1, 2, 5, 3, 6, 7};  // of xx yy zz xy xz yz yx zx zy
    if (!vflag_atom && !cvflag_atom) {
        return;
    }
    const int n = atom->nlocal + atom->nghost;
    const auto virials = on_host(results_.virials, n);
    for (int i = 0; i < n; ++i) {
        for (int c = 0; c < 9 && cvflag_atom; ++c) {
            cvatom[i][c] += energy_unit_ * virials(i, row_major[c]);
        }
        for (int c = 0; c < 3 && vflag_atom; ++c) {
            vatom[i][c] += energy_unit_ * virials(i, row_major[c]);
            vatom[i][3 + c] += 0.5 * energy_unit_ * (virials(i, row_major[3 + c]) + virials(i, row_major[6 + c]));
        }
    }
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::keep_driving_results() {
    if (has_driving_results_) {
        return;
    }
    const auto n_owned = static_cast<std::size_t>(atom->nlocal);
    const std::size_t n_total = n_owned + atom->nghost;
    const auto potentials = on_host(results_.potentials, atom->nlocal);
    const auto charges = on_host(charges_.template view<DeviceType>(), atom->nlocal);
    const auto forces = on_host(results_.forces, atom->nlocal + atom->nghost);
    driving_potentials_.assign(potentials.data(), potentials.data() + n_owned);
    driving_charges_.assign(charges.data(), charges.data() + n_owned);
    driving_forces_.assign(forces.data(), forces.data() + 3 * n_total);
    has_driving_results_ = true;
}

template <class DeviceType>
std::vector<int> PairQNEPKokkos<DeviceType>::elements_of_driving_model() {
    const std::vector<int> &type_map = models_.front()->neighbors().type_map();
    atomKK->sync(Host, TYPE_MASK);
    std::vector<int> elements(atom->nlocal);
    for (int i = 0; i < atom->nlocal; ++i) {
        elements[i] = type_map[atom->type[i]];
    }
    return elements;
}

template <class DeviceType>
const std::vector<double> &PairQNEPKokkos<DeviceType>::deviations() {
    if (deviation_step_ == update->ntimestep) {
        return deviations_;
    }
    timer_.start();
    keep_driving_results();
    atomKK->sync(execution_space, X_MASK | TYPE_MASK);
    const int n = atom->nlocal + atom->nghost;
    std::vector<std::vector<double>> all_forces{driving_forces_};
    for (std::size_t k = 1; k < models_.size(); ++k) {
        without_exceptions([&] { evaluate(k, false, false, false); });
        const auto forces = on_host(results_.forces, n);
        all_forces.emplace_back(forces.data(), forces.data() + 3 * static_cast<std::size_t>(n));
    }
    atoms_ = atoms_of(device_models_.front());  // with the elements of the model that drives the run again
    for (std::vector<double> &forces : all_forces) {
        sum_back_from_ghosts(forces.data(), 3);
    }
    deviations_ = force_deviations(all_forces, atom->nlocal);
    deviation_step_ = update->ntimestep;
    timer_.lap(Stage::deviation);
    return deviations_;
}

template <class DeviceType>
const std::vector<double> &PairQNEPKokkos<DeviceType>::potentials() {
    keep_driving_results();
    return driving_potentials_;
}

/// Descriptors come from the device; the grade of an atom is one product of a matrix with them.
template <class DeviceType>
const std::vector<double> &PairQNEPKokkos<DeviceType>::grades() {
    if (grade_step_ == update->ntimestep) {
        return grades_;
    }
    timer_.start();
    keep_driving_results();
    atomKK->sync(execution_space, X_MASK | TYPE_MASK);
    const auto n_owned = static_cast<std::size_t>(atom->nlocal);
    const auto n_descriptors = static_cast<std::size_t>(models_.front()->model().n_descriptors());
    Kokkos::View<double **, Kokkos::LayoutRight, DeviceType> values;
    without_exceptions([&] {
        values = decltype(values)("qnep:descriptors", n_owned, n_descriptors);
        device_models_.front().evaluation->descriptors(atoms_of(device_models_.front()), values);
    });
    const auto descriptors = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), values);
    const std::vector<int> elements = elements_of_driving_model();
    grades_.assign(n_owned, 0.0);
    std::vector<double> scratch(n_descriptors + 1);
    for (std::size_t i = 0; i < n_owned; ++i) {
        if (elements[i] >= 0) {
            grades_[i] = active_set_->grade(elements[i], descriptors.data() + n_descriptors * i, scratch.data());
        }
    }
    grade_step_ = update->ntimestep;
    timer_.lap(Stage::deviation);
    return grades_;
}

template <class DeviceType>
const std::vector<double> &PairQNEPKokkos<DeviceType>::born_effective_charges() {
    keep_driving_results();
    atomKK->sync(execution_space, X_MASK | TYPE_MASK);
    const int n = atom->nlocal + atom->nghost;
    Kokkos::View<double *[9], Kokkos::LayoutRight, DeviceType> values;
    without_exceptions([&] {
        values = decltype(values)("qnep:born", n);
        device_models_.front().evaluation->born_pass(atoms_of(device_models_.front()), values);
    });
    const auto born = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), values);
    born_charges_.assign(born.data(), born.data() + 9 * static_cast<std::size_t>(n));
    const qnep::Model &model = models_.front()->model();
    const double sqrt_epsilon = model.parameters[model.sqrt_epsilon_offset()];
    for (std::size_t i = 0; i < driving_charges_.size(); ++i) {
        for (int d = 0; d < 3; ++d) {
            born_charges_[9 * i + 4 * d] += sqrt_epsilon * driving_charges_[i];
        }
    }
    sum_back_from_ghosts(born_charges_.data(), 9);
    return born_charges_;
}

template <class DeviceType>
int PairQNEPKokkos<DeviceType>::pack_forward_comm(int n, int *atoms, double *buffer, int pbc_flag, int *pbc) {
    charges_.sync_host();
    ghost_values_ = charges_.view_host().data();
    return PairQNEP::pack_forward_comm(n, atoms, buffer, pbc_flag, pbc);
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::unpack_forward_comm(int n, int first, double *buffer) {
    charges_.sync_host();
    ghost_values_ = charges_.view_host().data();
    PairQNEP::unpack_forward_comm(n, first, buffer);
    charges_.modify_host();
}

template <class DeviceType>
int PairQNEPKokkos<DeviceType>::pack_forward_comm_kokkos(int n, DAT::tdual_int_1d atoms, DAT::tdual_xfloat_1d &buffer,
                                                         int /*pbc_flag*/, int * /*pbc*/) {
    qnep::gather_values<DeviceType>(n, atoms.template view<DeviceType>(), charges_.template view<DeviceType>(),
                                    buffer.template view<DeviceType>());
    return n;
}

template <class DeviceType>
void PairQNEPKokkos<DeviceType>::unpack_forward_comm_kokkos(int n, int first, DAT::tdual_xfloat_1d &buffer) {
    qnep::place_values<DeviceType>(n, first, buffer.template view<DeviceType>(), charges_.template view<DeviceType>());
    charges_.template modify<DeviceType>();
}

template <class DeviceType>
double PairQNEPKokkos<DeviceType>::memory_usage() {
    double bytes = PairQNEP::memory_usage();
    for (const DeviceModel &model : device_models_) {
        bytes += static_cast<double>(model.evaluation->bytes());
    }
    return bytes + static_cast<double>((numbers_per_atom * results_.forces.extent(0) + results_.virials.span()) *
                                       sizeof(double));
}

template class PairQNEPKokkos<LMPDeviceType>;
#ifdef LMP_KOKKOS_GPU
template class PairQNEPKokkos<LMPHostType>;
#endif

}  // namespace LAMMPS_NS
