#include "potential.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "atom_kernel.h"
#include "constants.h"
#include "parallel.h"
#include "prepared_model.h"

namespace qnep {

// ---- choice of the instruction set ----

namespace {

#if defined(__x86_64__)
constexpr const char *baseline_simd = "sse2";
#else
constexpr const char *baseline_simd = "generic";
#endif

template <typename Real>
AtomKernel *make_kernel(const std::string &simd, const KernelModel<Real> &model) {
#if defined(__x86_64__)
    if (simd == "avx512") return avx512::make_atom_kernel(model);
    if (simd == "avx2") return avx2::make_atom_kernel(model);
#endif
    (void)simd;
    return sse2::make_atom_kernel(model);
}

std::string choose_simd(const std::string &wanted) {
    const std::vector<std::string> available = available_simd();
    if (wanted == "auto") return available.back();
    if (std::find(available.begin(), available.end(), wanted) != available.end()) return wanted;
    std::string list;
    for (const auto &name : available)
        list += (list.empty() ? "" : ", ") + name;
    throw InputError("simd must be auto or one of " + list + " on this processor, got '" + wanted + "'");
}

}  // namespace

std::vector<std::string> available_simd() {
    std::vector<std::string> names = {baseline_simd};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        names.push_back("avx2");
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
            names.push_back("avx512");
        }
    }
#endif
    return names;
}

// ---- the drivers ----

namespace {

// What the threads add up, each in arrays of its own. Forces are packed by four, so that one vector holds one. The
// arrays outlive an evaluation: fresh memory would cost a page fault per 4 kB.
class ThreadOutputs {
public:
    explicit ThreadOutputs(int n_threads): own_(n_threads) {}

    void start(int n_booked, const ForceOutput &output) {
        size_ = static_cast<std::size_t>(n_booked);
        output_ = output;
        for (Own &own : own_)
            own.is_used = false;
    }

    void add(const AtomKernel &kernel, int thread) {
        Own &own = own_[thread];
        if (!own.is_used) clear(own);
        if (output_.forces) kernel.add_forces(own.packed_forces.data());
        if (output_.virial) kernel.add_virial(own.virial);
        if (output_.atom_virials) kernel.add_atom_virials(own.atom_virials.data());
    }

    void reduce() {
        for (const Own &own : own_) {
            for (int c = 0; own.is_used && output_.virial && c < 9; ++c)
                output_.virial[c] += own.virial[c];
        }
        if (output_.forces) sum(output_.forces, 3, &Own::packed_forces, 4);
        if (output_.atom_virials) sum(output_.atom_virials, 9, &Own::atom_virials, 9);
    }

private:
    // Two threads never write into one cache line, nor into the pair of lines that a processor fetches together.
    struct alignas(128) Own {
        std::vector<double> packed_forces, atom_virials;
        double virial[9] = {};
        bool is_used = false;  // by an atom of this evaluation; else what it holds is old
    };

    void clear(Own &own) const {
        if (output_.forces) own.packed_forces.assign(4 * size_, 0.0);
        if (output_.atom_virials) own.atom_virials.assign(9 * size_, 0.0);
        std::fill(own.virial, own.virial + 9, 0.0);
        own.is_used = true;
    }

    void sum(double *to, std::size_t width, std::vector<double> Own::*values, std::size_t stride) {
        const int n_threads = static_cast<int>(own_.size());
        parallel_ranges(n_threads, size_, [&](std::size_t begin, std::size_t stop, int) {
            for (const Own &own : own_) {
                if (!own.is_used) continue;
                const double *from = (own.*values).data();
                for (std::size_t i = begin; i < stop; ++i) {
                    for (std::size_t c = 0; c < width; ++c)
                        to[width * i + c] += from[stride * i + c];
                }
            }
        });
    }

    std::size_t size_ = 0;
    ForceOutput output_;
    std::vector<Own> own_;
};

}  // namespace

class Potential::Implementation {
public:
    Implementation(std::shared_ptr<const Model> model, const PotentialOptions &options):
        model_(std::move(model)), n_threads_(options.n_threads), simd_(choose_simd(options.simd)),
        outputs_(std::max(options.n_threads, 1)), positions_(std::max(options.n_threads, 1)) {
        model_->check();
        if (n_threads_ < 1) {
            throw InputError("n_threads must be at least 1, got " + std::to_string(n_threads_));
        }
        if (options.precision == Precision::single_precision) {
            prepare<float>(single_, options);
        } else {
            prepare<double>(double_, options);
        }
    }

    const Model &model() const { return *model_; }
    const std::string &simd() const { return simd_; }
    int n_threads() const { return n_threads_; }
    ThreadOutputs &start_outputs(int n_booked, const ForceOutput &output) {
        outputs_.start(n_booked, output);
        return outputs_;
    }

    // Calls body(kernel, atom, thread, place) with the kernel gathered, for all atoms of the list; place: in its order.
    template <typename Body>
    void for_atoms(const Atoms &atoms, const NeighborList &neighbors, const Body &body) {
        resize_positions(atoms.n_total);
        if (!has_own_positions(atoms)) {
            parallel_ranges(n_threads_, atoms.n_total, [&](std::size_t begin, std::size_t stop, int) {
                pack_positions(atoms, begin, stop, positions_[0]);
            });
        }
        visit_atoms(atoms, neighbors, has_own_positions(atoms), body);
    }

    // The same for atoms that have not moved since the last call of for_atoms.
    template <typename Body>
    void for_packed_atoms(const Atoms &atoms, const NeighborList &neighbors, const Body &body) {
        visit_atoms(atoms, neighbors, false, body);
    }

    // States are kept in the order of the visits: read one after the other, they come in time.
    char *state_of(std::size_t place) { return states_.data() + place * state_bytes(); }
    std::size_t state_bytes() const { return kernels_[0]->state_bytes(); }
    void reserve_states(int n_owned) { states_.resize(static_cast<std::size_t>(n_owned) * state_bytes()); }

    void require_states(const Atoms &atoms, const char *caller) const {
        const Positions &positions = positions_[0];
        if (states_.size() != static_cast<std::size_t>(atoms.n_owned) * state_bytes() ||
            std::max(positions.exact.size(), positions.grid.size()) != 4 * static_cast<std::size_t>(atoms.n_total)) {
            throw InputError(std::string(caller) + " must follow network_pass for the same atoms");
        }
    }

private:
    // As the kernels read them; of two threads never in one cache line.
    struct alignas(128) Positions {
        std::vector<double> exact;       // [n_total][4], Å: of double precision
        std::vector<std::int32_t> grid;  // [n_total][4]: of single precision
    };

    // Few atoms are packed by every thread for itself, into the cache of its core: fetching what another core has
    // written takes longer. These fill a quarter of a megabyte.
    static constexpr int most_own_positions = 8192;
    bool has_own_positions(const Atoms &atoms) const { return n_threads_ > 1 && atoms.n_total <= most_own_positions; }

    template <typename Body>
    void visit_atoms(const Atoms &atoms, const NeighborList &neighbors, bool packs_own_positions, const Body &body) {
        if (neighbors.n_atoms() != atoms.n_owned) {
            throw InputError("the neighbour list is of " + std::to_string(neighbors.n_atoms()) + " atoms, wanted " +
                             std::to_string(atoms.n_owned));
        }
        const std::vector<int> &order = neighbors.order();
        std::atomic<long long> coincident{-1};
        parallel_ranges(n_threads_, order.size(), [&](std::size_t begin, std::size_t stop, int thread) {
            AtomKernel &kernel = *kernels_[thread];
            Positions &own = positions_[has_own_positions(atoms) ? thread : 0];
            if (packs_own_positions) pack_positions(atoms, 0, atoms.n_total, own);
            const PackedPositions positions{own.exact.data(), own.grid.data()};
            for (std::size_t k = begin; k < stop; ++k) {
                const int i = order[k];
                const int other = kernel.gather(positions, neighbors.neighbors(i), neighbors.owners(i),
                                                neighbors.segments(i), i, atoms.types[i]);
                if (other >= 0) {
                    coincident = static_cast<long long>(i) * atoms.n_total + other;
                    return;
                }
                body(kernel, i, thread, k);
            }
        });
        if (coincident >= 0) {
            throw CoincidentAtoms(static_cast<int>(coincident / atoms.n_total),
                                  static_cast<int>(coincident % atoms.n_total));
        }
    }

    template <typename Real>
    void prepare(std::unique_ptr<PreparedModel<Real>> &prepared, const PotentialOptions &options) {
        prepared = std::make_unique<PreparedModel<Real>>(*model_, options.temperature);
        for (int thread = 0; thread < n_threads_; ++thread) {
            kernels_.emplace_back(make_kernel<Real>(simd_, prepared->view()));
        }
    }

    void resize_positions(int n_total) {
        const std::size_t size = 4 * static_cast<std::size_t>(n_total);
        for (Positions &positions : positions_) {
            const bool is_used = &positions == &positions_[0] || n_total <= most_own_positions;
            if (single_) {
                positions.grid.resize(is_used ? size : 0);
            } else {
                positions.exact.resize(is_used ? size : 0);
            }
        }
    }

    void pack_positions(const Atoms &atoms, std::size_t begin, std::size_t stop, Positions &to) const {
        for (std::size_t i = begin; i < stop; ++i) {
            const std::array<double, 3> from = atoms.position(i);
            for (int c = 0; c < 3; ++c) {
                if (single_) {
                    to.grid[4 * i + c] = to_grid(from[c]);
                } else {
                    to.exact[4 * i + c] = from[c];
                }
            }
        }
    }

    // The nearest multiple of the spacing, modulo 2^32: adding 1.5 * 2^52 leaves it in the low bits.
    static std::int32_t to_grid(double coordinate) {
        const double shifted = coordinate * (1.0 / grid_spacing) + 6755399441055744.0;
        std::int64_t bits;
        std::memcpy(&bits, &shifted, sizeof bits);
        return static_cast<std::int32_t>(bits);
    }

    std::shared_ptr<const Model> model_;
    int n_threads_;
    std::string simd_;
    ThreadOutputs outputs_;
    std::vector<Positions> positions_;  // one per thread; the first one is that of all if there are many atoms
    std::unique_ptr<PreparedModel<double>> double_;
    std::unique_ptr<PreparedModel<float>> single_;
    std::vector<std::unique_ptr<AtomKernel>> kernels_;  // one per thread
    std::vector<char> states_;                          // of the owned atoms, from network_pass
};

Potential::Potential(std::shared_ptr<const Model> model, const PotentialOptions &options):
    implementation_(std::make_unique<Implementation>(std::move(model), options)) {}

Potential::~Potential() = default;
Potential::Potential(Potential &&) noexcept = default;

const Model &Potential::model() const {
    return implementation_->model();
}

const std::string &Potential::simd() const {
    return implementation_->simd();
}

void Potential::compute(const Atoms &atoms, const NeighborList &neighbors, double *site_energies,
                        const ForceOutput &output) {
    ThreadOutputs &outputs = implementation_->start_outputs(neighbors.n_booked(), output);
    const bool wants_gradient = output.forces || output.virial || output.atom_virials;
    if (site_energies) std::fill(site_energies, site_energies + atoms.n_owned, 0.0);
    implementation_->for_atoms(atoms, neighbors, [&](AtomKernel &kernel, int i, int thread, std::size_t) {
        double energy, charge;
        kernel.describe();
        kernel.infer(0, energy, charge);
        if (site_energies) site_energies[i] = energy + kernel.repulsion_energy();
        if (!wants_gradient) return;
        kernel.gradient(1.0, 0.0, true);
        outputs.add(kernel, thread);
    });
    outputs.reduce();
}

void Potential::network_pass(const Atoms &atoms, const NeighborList &neighbors, double *site_energies,
                             double *raw_charges) {
    implementation_->reserve_states(atoms.n_owned);
    if (site_energies) std::fill(site_energies, site_energies + atoms.n_owned, 0.0);
    if (raw_charges) std::fill(raw_charges, raw_charges + atoms.n_owned, 0.0);
    implementation_->for_atoms(atoms, neighbors, [&](AtomKernel &kernel, int i, int, std::size_t place) {
        double energy, charge;
        kernel.describe();
        kernel.infer(0, energy, charge);
        kernel.save_state(implementation_->state_of(place));
        if (site_energies) site_energies[i] = energy + kernel.repulsion_energy();
        if (raw_charges) raw_charges[i] = charge;
    });
}

void Potential::force_pass(const Atoms &atoms, const NeighborList &neighbors, const double *charge_derivatives,
                           const ForceOutput &output) {
    implementation_->require_states(atoms, "force_pass");
    ThreadOutputs &outputs = implementation_->start_outputs(neighbors.n_booked(), output);
    implementation_->for_packed_atoms(atoms, neighbors, [&](AtomKernel &kernel, int i, int thread, std::size_t place) {
        kernel.restore_state(implementation_->state_of(place));
        kernel.gradient(1.0, charge_derivatives ? charge_derivatives[i] : 0.0, true);
        outputs.add(kernel, thread);
    });
    outputs.reduce();
}

void Potential::real_space_coulomb(const Atoms &atoms, const NeighborList &neighbors, const double *charges,
                                   double *site_energies, double *potentials, const ForceOutput &output) {
    const double alpha = model().ewald_alpha();
    const double self = coulomb_constant * alpha / std::sqrt(pi);
    ThreadOutputs &outputs = implementation_->start_outputs(neighbors.n_booked(), output);
    implementation_->for_atoms(atoms, neighbors, [&](AtomKernel &kernel, int i, int thread, std::size_t) {
        double energy = -self * charges[i] * charges[i];
        double potential = -2.0 * self * charges[i];
        kernel.coulomb(alpha, charges, energy, potential);
        if (site_energies) site_energies[i] += energy;
        if (potentials) potentials[i] += potential;
        outputs.add(kernel, thread);
    });
    outputs.reduce();
}

void Potential::born_effective_charges(const Atoms &atoms, const NeighborList &neighbors, double *born_charges) {
    implementation_->require_states(atoms, "born_effective_charges");
    if (!model().has_charges()) {
        throw InputError("Born effective charges need a model with charges, got " + model().token());
    }
    const double scale = 0.5 * model().parameters[model().sqrt_epsilon_offset()];
    const int n_threads = implementation_->n_threads();
    std::vector<std::vector<double>> own(n_threads);
    for (int thread = 1; thread < n_threads; ++thread) {
        own[thread].assign(9 * static_cast<std::size_t>(neighbors.n_booked()), 0.0);
    }
    implementation_->for_atoms(atoms, neighbors, [&](AtomKernel &kernel, int, int thread, std::size_t place) {
        kernel.restore_state(implementation_->state_of(place));
        kernel.gradient(0.0, 1.0, false);
        kernel.add_born_charges(scale, thread == 0 ? born_charges : own[thread].data());
    });
    for (int thread = 1; thread < n_threads; ++thread) {
        std::transform(own[thread].begin(), own[thread].end(), born_charges, born_charges, std::plus<>());
    }
}

void Potential::descriptors(const Atoms &atoms, const NeighborList &neighbors, double *values) {
    const std::size_t n_descriptors = model().n_descriptors();
    implementation_->for_atoms(atoms, neighbors, [&](AtomKernel &kernel, int i, int, std::size_t) {
        kernel.describe();
        kernel.copy_descriptors(values + n_descriptors * i);
    });
}

void Potential::extrapolation_grades(const Atoms &atoms, const NeighborList &neighbors, const ActiveSet &active_set,
                                     double *grades) {
    const std::size_t n = model().n_descriptors();
    std::vector<std::vector<double>> buffers(implementation_->n_threads(), std::vector<double>(2 * n + 1));
    implementation_->for_atoms(atoms, neighbors, [&](AtomKernel &kernel, int i, int thread, std::size_t) {
        double *descriptors = buffers[thread].data();
        kernel.describe();
        kernel.copy_descriptors(descriptors);
        grades[i] = active_set.grade(atoms.types[i], descriptors, descriptors + n);
    });
}

void Potential::tensor(const Atoms &atoms, const NeighborList &neighbors, double *values) {
    if (model().kind == ModelKind::potential) {
        throw InputError("a dipole or polarizability model is needed, got " + model().token());
    }
    const bool is_dipole = model().kind == ModelKind::dipole;
    struct Sum {
        double tensor[9] = {};
        double trace = 0.0;
    };
    std::vector<Sum> sums(implementation_->n_threads());
    implementation_->for_atoms(atoms, neighbors, [&](AtomKernel &kernel, int, int thread, std::size_t) {
        Sum &sum = sums[thread];
        double scalar, unused;
        kernel.describe();
        if (!is_dipole) {
            kernel.infer(1, scalar, unused);
            sum.trace += scalar;
        }
        kernel.infer(0, scalar, unused);
        kernel.gradient(1.0, 0.0, false);
        if (is_dipole) {
            kernel.add_dipole(sum.tensor);
        } else {
            kernel.add_virial(sum.tensor);
        }
    });
    const int n_values = is_dipole ? 3 : 9;
    std::fill(values, values + n_values, 0.0);
    for (const Sum &sum : sums) {
        for (int c = 0; c < n_values; ++c)
            values[c] += sum.tensor[c];
        for (int c = 0; !is_dipole && c < 9; c += 4)
            values[c] += sum.trace;
    }
}

}  // namespace qnep
