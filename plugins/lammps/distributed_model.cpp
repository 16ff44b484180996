#include "distributed_model.h"

#include <algorithm>
#include <utility>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "kspace_reciprocal_sum.h"
#include "lammps.h"

namespace LAMMPS_NS {

qnep::Cell cell_of(const Domain &domain) {
    return {{{domain.h[0], 0.0, 0.0}, {domain.h[5], domain.h[1], 0.0}, {domain.h[4], domain.h[3], domain.h[2]}}};
}

std::unique_ptr<qnep::ReciprocalSum> make_reciprocal_sum(LAMMPS *lammps, const QNEPSettings &settings,
                                                         const qnep::Model &model) {
    if (settings.kspace != KSpaceMethod::direct) {
        return std::make_unique<KSpaceReciprocalSum>(lammps, settings, model.ewald_alpha(), model.largest_cutoff());
    }
    const MPI_Comm ranks = lammps->world;
    return qnep::make_ewald(model.ewald_alpha(), lammps->comm->nthreads, [ranks](int n, double *values) {
        MPI_Allreduce(MPI_IN_PLACE, values, n, MPI_DOUBLE, MPI_SUM, ranks);
    });
}

DistributedModel::DistributedModel(LAMMPS *lammps, std::string file, std::shared_ptr<const qnep::Model> model,
                                   std::shared_ptr<TypedNeighbors> neighbors, const QNEPSettings &settings,
                                   ShareWithGhosts share_with_ghosts):
    Pointers(lammps),
    file_(std::move(file)), model_(std::move(model)), neighbors_(std::move(neighbors)), settings_(settings),
    share_with_ghosts_(std::move(share_with_ghosts)) {}

void DistributedModel::init() {
    qnep::PotentialOptions options = settings_.potential;
    options.n_threads = comm->nthreads;
    potential_ = std::make_unique<qnep::Potential>(model_, options);
    if (model_->has_charges()) {
        reciprocal_sum_ = make_reciprocal_sum(lmp, settings_, *model_);
    }
}

void DistributedModel::reset_results(const WantedResults &wanted) {
    const auto n_owned = static_cast<std::size_t>(neighbors_->n_owned());
    const auto n_total = static_cast<std::size_t>(neighbors_->n_total());
    site_energies_.assign(n_owned, 0.0);
    coulomb_energies_.assign(n_owned, 0.0);
    charges_.assign(n_total, 0.0);
    potentials_.assign(n_owned, 0.0);
    forces_.assign(3 * n_total, 0.0);
    atom_virials_.assign(wanted.atom_virials ? 9 * n_total : 0, 0.0);
    atom_virials_.reserve(1);  // a null pointer would mean: not wanted; ranks without atoms must not disagree about it
    std::fill_n(virial_, 9, 0.0);
    std::fill_n(mesh_force_, 3, 0.0);
}

qnep::ForceOutput DistributedModel::force_output(const WantedResults &wanted) {
    qnep::ForceOutput output;
    output.forces = forces_.data();
    output.virial = wanted.virial ? virial_ : nullptr;
    output.atom_virials = wanted.atom_virials ? atom_virials_.data() : nullptr;
    return output;
}

void DistributedModel::evaluate(const WantedResults &wanted, StageTimer &timer) {
    reset_results(wanted);
    if (model_->has_charges()) {
        evaluate_with_charges(wanted, timer);
        return;
    }
    potential_->compute(neighbors_->atoms(*atom), neighbors_->list(), site_energies_.data(), force_output(wanted));
    timer.lap(Stage::forces);
}

void DistributedModel::evaluate_with_charges(const WantedResults &wanted, StageTimer &timer) {
    const qnep::Atoms atoms = neighbors_->atoms(*atom);
    potential_->network_pass(atoms, neighbors_->list(), site_energies_.data(), charges_.data());
    timer.lap(Stage::network);
    const bool has_coulomb_energy = neutralize();
    timer.lap(Stage::charges);
    share_with_ghosts_(charges_.data());
    timer.lap(Stage::communication);
    if (has_coulomb_energy) {
        add_reciprocal_sum(wanted);
    }
    timer.lap(Stage::kspace);
    if (model_->charge_mode == 1 && has_coulomb_energy) {
        potential_->real_space_coulomb(atoms, neighbors_->list(), charges_.data(), coulomb_energies_.data(),
                                       potentials_.data(), force_output(wanted));
    }
    timer.lap(Stage::charges);
    charge_derivatives_ = potentials_;
    if (charge_response_) {
        charge_response_(charges_.data(), charge_derivatives_.data());
    }
    remove_means(charge_derivatives_.data());
    timer.lap(Stage::communication);
    potential_->force_pass(atoms, neighbors_->list(), charge_derivatives_.data(), force_output(wanted));
    timer.lap(Stage::forces);
}

bool DistributedModel::neutralize() {
    double sums[3] = {};  // of the charges, of their squares, of the atoms
    const std::vector<int> &types = neighbors_->types();
    for (int i = 0; i < neighbors_->n_owned(); ++i) {
        if (types[i] >= 0) {
            sums[0] += charges_[i];
            sums[1] += charges_[i] * charges_[i];
            sums[2] += 1.0;
        }
    }
    MPI_Allreduce(MPI_IN_PLACE, sums, 3, MPI_DOUBLE, MPI_SUM, world);
    n_model_atoms_ = sums[2];
    if (n_model_atoms_ == 0.0) {
        return false;
    }
    const double shift = (settings_.total_charge - sums[0]) / n_model_atoms_;
    for (int i = 0; i < neighbors_->n_owned(); ++i) {
        charges_[i] = types[i] >= 0 ? charges_[i] + shift : 0.0;
    }
    const double mean_square = (sums[1] + 2.0 * shift * sums[0]) / n_model_atoms_ + shift * shift;
    return mean_square > negligible_square_charge;
}

void DistributedModel::add_reciprocal_sum(const WantedResults &wanted) {
    qnep::ReciprocalOutput output;
    output.site_energies = coulomb_energies_.data();
    output.potentials = potentials_.data();
    output.forces = forces_.data();
    double whole_virial[9] = {};
    output.virial = wanted.virial ? whole_virial : nullptr;
    output.atom_virials = wanted.atom_virials ? atom_virials_.data() : nullptr;
    reciprocal_sum_->set_cell(cell_of(*domain));
    const double *positions = atom->nlocal > 0 ? &atom->x[0][0] : nullptr;
    reciprocal_sum_->compute(neighbors_->n_owned(), positions, charges_.data(), output);
    for (int c = 0; c < 9 && comm->me == 0; ++c) {
        virial_[c] += whole_virial[c];
    }
    for (int i = 0; i < neighbors_->n_owned(); ++i) {
        for (int d = 0; d < 3; ++d) {
            mesh_force_[d] += forces_[3 * static_cast<std::size_t>(i) + d];
        }
    }
}

void DistributedModel::remove_means(double *charge_derivatives) {
    const std::vector<int> &types = neighbors_->types();
    double sums[4] = {mesh_force_[0], mesh_force_[1], mesh_force_[2], 0.0};
    for (int i = 0; i < neighbors_->n_owned(); ++i) {
        sums[3] += types[i] >= 0 ? charge_derivatives[i] : 0.0;
    }
    MPI_Allreduce(MPI_IN_PLACE, sums, 4, MPI_DOUBLE, MPI_SUM, world);
    const double inverse_count = n_model_atoms_ > 0.0 ? 1.0 / n_model_atoms_ : 0.0;
    const double mean_potential = settings_.corrects_mean ? sums[3] * inverse_count : 0.0;
    for (int i = 0; i < neighbors_->n_owned(); ++i) {
        if (types[i] < 0) {
            continue;
        }
        charge_derivatives[i] -= mean_potential;
        for (int d = 0; d < 3 && settings_.removes_net_force; ++d) {
            forces_[3 * static_cast<std::size_t>(i) + d] -= sums[d] * inverse_count;
        }
    }
}

void DistributedModel::born_effective_charges(std::vector<double> &born_charges) {
    born_charges.assign(9 * static_cast<std::size_t>(neighbors_->n_total()), 0.0);
    potential_->born_effective_charges(neighbors_->atoms(*atom), neighbors_->list(), born_charges.data());
    const double sqrt_epsilon = model_->parameters[model_->sqrt_epsilon_offset()];
    for (int i = 0; i < neighbors_->n_owned(); ++i) {
        for (int d = 0; d < 3; ++d) {
            born_charges[9 * static_cast<std::size_t>(i) + 4 * d] += sqrt_epsilon * charges_[i];
        }
    }
}

void DistributedModel::extrapolation_grades(const qnep::ActiveSet &active_set, std::vector<double> &grades) {
    grades.assign(neighbors_->n_owned(), 0.0);
    potential_->extrapolation_grades(neighbors_->atoms(*atom), neighbors_->list(), active_set, grades.data());
}

double DistributedModel::memory_usage() const {
    std::size_t numbers = 0;
    for (const auto *array : {&site_energies_, &coulomb_energies_, &charges_, &potentials_, &charge_derivatives_,
                              &forces_, &atom_virials_}) {
        numbers += array->capacity();
    }
    double bytes = static_cast<double>(numbers * sizeof(double));
    if (const auto *solver = dynamic_cast<const KSpaceReciprocalSum *>(reciprocal_sum_.get())) {
        bytes += solver->memory_usage();
    }
    return bytes;
}

}  // namespace LAMMPS_NS
