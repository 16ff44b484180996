// Plain Ewald sum: products of cosines and sines of the three axes, four reciprocal vectors at a time.
#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "constants.h"
#include "electrostatics.h"
#include "electrostatics_cell.h"
#include "electrostatics_kernels.h"
#include "model.h"
#include "parallel.h"

namespace qnep {
namespace {

constexpr std::size_t largest_store = 1 << 19;  // bytes of phases that are kept between the two sums

// With t_d = 2 pi times the fractional coordinates, cos and sin of n1 t1 ± n2 t2 ± n3 t3 are sums of the eight products
// A_c B_s of cosines and sines of the single axes. The structure factors of the four vectors (n1, ±n2, ±n3) follow from
// the charge-weighted sums of these products, and the potential is a sum of the products again, with other
// coefficients: 2 multiplications per atom and vector there, 4 here, forces included.
template <typename Real>
class EwaldSum final : public ReciprocalSum {
public:
    EwaldSum(double alpha, int n_threads, DomainSum domain_sum):
        alpha_(alpha), n_threads_(n_threads), domain_sum_(std::move(domain_sum)),
        kernels_(electrostatics_kernels<Real>()) {}

    void set_cell(const Cell &cell) override;
    double compute(int n, const double *positions, const double *charges, const ReciprocalOutput &output) override;
    std::string describe() const override;

private:
    using Kernel = decltype(ElectrostaticsKernels<Real>::fields);
    struct alignas(64) PhaseRow {
        Real values[ewald_block];
    };
    struct alignas(64) Entry {
        double values[8];
    };
    struct alignas(8 * sizeof(Real)) FieldEntry {
        Real values[8];
    };
    // Phases of a block of atoms.
    struct Block {
        std::vector<PhaseRow> tables;
        alignas(64) double fractional[3][ewald_block];
        alignas(64) Real charges[ewald_block];
    };
    // A thread: its rows of vectors, for all atoms. Structure factors and coefficients are then nobody else's, and
    // only the fields at the atoms are summed over threads.
    struct alignas(128) Worker {
        std::size_t first_row = 0, last_row = 0;
        std::vector<Block> blocks;              // of all atoms if they are few, else one for all to come
        std::vector<EwaldPhases<Real>> phases;  // of the blocks
        std::vector<EwaldFields<Real>> fields;  // [n_blocks], of these rows
        double energy = 0.0;
        std::array<double, 7> virial{};
    };
    struct Charges {
        int n;
        const double *positions, *values;
    };
    // The four vectors of an entry, (+n2, +n3), (+n2, -n3), (-n2, +n3), (-n2, -n3). Weights are G times that of the
    // multiplicity, zero for a vector outside the sphere.
    struct Waves {
        double weights[4], virial_scales[4];
        std::array<double, 3> k[4];
    };
    // Sums of q cos(k.r) and q sin(k.r) for the vectors of an entry, or what they are multiplied with.
    struct Factors {
        double cosines[4], sines[4];
    };

    void add_row(int n1, int n2);
    void share_rows();
    void resize_workers(std::size_t n_blocks);
    template <class Body>
    void for_workers(const Body &body);
    std::size_t phase_rows() const;
    const EwaldPhases<Real> &load_block(Worker &worker, std::size_t block, const Charges &charges) const;
    const EwaldPhases<Real> &loaded_block(Worker &worker, std::size_t block, const Charges &charges) const;
    void structure_sums(Worker &worker, const Charges &charges);
    void energy_and_coefficients(Worker &worker);
    void coefficients_of_component(const Worker &worker, int component);
    void add_up_fields(Worker &worker, const Charges &charges, Kernel kernel);
    void book_fields(const Charges &charges, const ReciprocalOutput &output) const;
    void site_virials(const Charges &charges, double *virials);
    std::size_t first_entry(std::size_t row) const { return row < rows_.size() ? rows_[row].offset : n_entries_; }
    Factors structure_factors(std::size_t entry) const;
    void set_coefficients(std::size_t entry, const Factors &factors);
    const Real *coefficients_for_kernels(const Worker &worker);

    double alpha_;
    int n_threads_;
    DomainSum domain_sum_;
    const ElectrostaticsKernels<Real> &kernels_;
    Cell cell_ = no_cell;
    ReciprocalCell geometry_{Cell{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}};
    std::array<int, 3> axes_{};  // lattice vector of each axis of the loops: the longest last
    std::array<int, 3> n_max_{};
    std::vector<EwaldRow> rows_;
    std::vector<Waves> waves_;  // [n_entries]
    std::size_t n_entries_ = 0, n_half_ = 0;
    std::vector<Entry> sums_;                     // of q times the eight products
    std::vector<Entry> coefficients_;             // of the eight products in the potential
    std::vector<FieldEntry> field_coefficients_;  // the same, for the kernels in single precision
    std::size_t n_blocks_ = 0, n_stored_blocks_ = 0;
    std::vector<Worker> workers_;
};

template <typename Real>
void EwaldSum<Real>::set_cell(const Cell &cell) {
    if (cell == cell_) return;
    geometry_ = ReciprocalCell(cell);
    if (ewald_vectors(alpha_, geometry_.volume) > most_ewald_vectors) {
        throw InputError(
            "a cell of " + std::to_string(geometry_.volume) +
            " Å^3 has too many reciprocal vectors for an Ewald sum: less vacuum, or the particle mesh (pppm)");
    }
    axes_ = {0, 1, 2};
    std::stable_sort(axes_.begin(), axes_.end(),
                     [&](int a, int b) { return geometry_.lengths[a] < geometry_.lengths[b]; });
    for (int d = 0; d < 3; ++d)
        n_max_[d] = static_cast<int>(std::floor(alpha_ * geometry_.lengths[axes_[d]] + 1e-9));
    rows_.clear();
    waves_.clear();
    n_entries_ = n_half_ = 0;
    for (int n1 = 0; n1 <= n_max_[0]; ++n1) {
        for (int n2 = 0; n2 <= n_max_[1]; ++n2)
            add_row(n1, n2);
    }
    share_rows();
    cell_ = cell;
}

// The vectors (n1, ±n2, ±n3) and their negatives hit a vector with z indices equal to zero 2^z times.
template <typename Real>
void EwaldSum<Real>::add_row(int n1, int n2) {
    EwaldRow row{n1, n2, n_max_[2] + 1, 0, n_entries_};
    for (int n3 = 0; n3 <= n_max_[2]; ++n3) {
        const double multiplicity = (n1 ? 1.0 : 0.5) * (n2 ? 1.0 : 0.5) * (n3 ? 1.0 : 0.5);
        Waves waves{};
        bool is_wanted = false;
        for (int w = 0; w < 4; ++w) {
            const bool is_negative2 = w >= 2, is_negative3 = w % 2 == 1;
            std::array<int, 3> index{};
            index[axes_[0]] = n1;
            index[axes_[1]] = is_negative2 ? -n2 : n2;
            index[axes_[2]] = is_negative3 ? -n3 : n3;
            const auto k = geometry_.vector(index[0], index[1], index[2]);
            const double k_squared = k[0] * k[0] + k[1] * k[1] + k[2] * k[2];
            const double weight = ewald_weight(k_squared, alpha_, geometry_.volume);
            if (weight == 0.0) continue;
            is_wanted = true;
            waves.weights[w] = multiplicity * weight;
            waves.virial_scales[w] = virial_scale(k_squared, alpha_);
            waves.k[w] = k;
            const bool repeated = (n1 == 0 && is_negative2) || (n2 == 0 && is_negative2) || (n3 == 0 && is_negative3) ||
                                  (n1 == 0 && n2 == 0 && is_negative3);
            if (!repeated) ++n_half_;
        }
        if (is_wanted) {
            row.first = std::min(row.first, n3);
            row.last = n3 + 1;
        }
        if (row.first <= n3) waves_.push_back(waves);
    }
    n_entries_ += std::max(row.last - row.first, 0);
    waves_.resize(n_entries_);  // without those behind the last that is wanted
    if (row.last > 0) rows_.push_back(row);
}

// Rows for each thread, with about equal numbers of entries.
template <typename Real>
void EwaldSum<Real>::share_rows() {
    constexpr std::size_t cost_of_row = 2;  // entries that take as long as what is done once a row
    const std::size_t n_workers = std::max<std::size_t>(1, std::min<std::size_t>(n_threads_, rows_.size()));
    const std::size_t total = n_entries_ + cost_of_row * rows_.size();
    workers_ = std::vector<Worker>(n_workers);
    for (std::size_t w = 0, row = 0; w < n_workers; ++w) {
        workers_[w].first_row = row;
        while (row < rows_.size() && (first_entry(row) + cost_of_row * row) * n_workers < (w + 1) * total)
            ++row;
        workers_[w].last_row = row;
    }
    sums_.resize(n_entries_);
    coefficients_.resize(n_entries_);
    if (sizeof(Real) < sizeof(double)) field_coefficients_.resize(n_entries_);
    n_blocks_ = 0;
}

template <typename Real>
std::size_t EwaldSum<Real>::phase_rows() const {
    return 2 * (std::max(n_max_[0], 1) + 1) + 2 * (std::max(n_max_[1], 1) + 1) + 4 * (std::max(n_max_[2], 1) + 1);
}

template <typename Real>
void EwaldSum<Real>::resize_workers(std::size_t n_blocks) {
    if (n_blocks == n_blocks_) return;
    n_blocks_ = n_blocks;
    n_stored_blocks_ = n_blocks * phase_rows() * sizeof(PhaseRow) <= largest_store ? n_blocks : 1;
    for (Worker &worker : workers_) {
        worker.fields.resize(n_blocks);
        worker.blocks.resize(n_stored_blocks_);
        worker.phases.resize(n_stored_blocks_);
        for (Block &block : worker.blocks)
            block.tables.resize(phase_rows());
    }
}

template <typename Real>
template <class Body>
void EwaldSum<Real>::for_workers(const Body &body) {
    const int n_workers = static_cast<int>(workers_.size());
    parallel_ranges(n_workers, n_workers, [&](std::size_t, std::size_t, int thread) { body(workers_[thread]); });
}

template <typename Real>
const EwaldPhases<Real> &EwaldSum<Real>::load_block(Worker &worker, std::size_t index, const Charges &charges) const {
    constexpr double origin[3] = {0.0, 0.0, 0.0};
    Block &block = worker.blocks[index % n_stored_blocks_];
    EwaldPhases<Real> &phases = worker.phases[index % n_stored_blocks_];
    PhaseRow *rows = block.tables.data();
    const auto next_table = [&](int axis) {
        Real *table = rows->values;
        rows += std::max(n_max_[axis], 1) + 1;
        return table;
    };
    for (int d = 0; d < 3; ++d) {
        phases.n_max[d] = n_max_[d];
        phases.fractional[d] = block.fractional[d];
        phases.cosines[d] = next_table(d);
        phases.sines[d] = next_table(d);
    }
    phases.weighted_cosines = next_table(2);
    phases.weighted_sines = next_table(2);
    phases.charges = block.charges;
    const std::size_t first = index * ewald_block;
    for (int a = 0; a < ewald_block; ++a) {
        const bool exists = first + a < static_cast<std::size_t>(charges.n);
        block.charges[a] = exists ? static_cast<Real>(charges.values[first + a]) : Real(0);
        const auto s = geometry_.fractional(exists ? charges.positions + 3 * (first + a) : origin);
        for (int d = 0; d < 3; ++d)
            block.fractional[d][a] = s[axes_[d]];
    }
    kernels_.phase_powers(phases);
    return phases;
}

// A block that structure_sums has loaded, if it could be kept.
template <typename Real>
const EwaldPhases<Real> &EwaldSum<Real>::loaded_block(Worker &worker, std::size_t index, const Charges &charges) const {
    return n_stored_blocks_ == n_blocks_ ? worker.phases[index] : load_block(worker, index, charges);
}

template <typename Real>
void EwaldSum<Real>::structure_sums(Worker &worker, const Charges &charges) {
    std::fill(sums_.begin() + first_entry(worker.first_row), sums_.begin() + first_entry(worker.last_row), Entry{});
    for (std::size_t block = 0; block < n_blocks_; block += n_stored_blocks_) {
        for (std::size_t stored = 0; stored < n_stored_blocks_; ++stored)
            load_block(worker, block + stored, charges);
        kernels_.structure_sums(rows_.data() + worker.first_row, worker.last_row - worker.first_row,
                                worker.phases.data(), n_stored_blocks_, sums_[0].values);
    }
}

// values[w] = sum over v of ± values[v]; applied twice, four times what it was.
inline void combine_signs(double *values) {
    const double sum1 = values[0] + values[1], difference1 = values[0] - values[1];
    const double sum2 = values[2] + values[3], difference2 = values[2] - values[3];
    values[0] = sum1 + sum2;
    values[1] = difference1 + difference2;
    values[2] = sum1 - sum2;
    values[3] = difference1 - difference2;
}

// With the signs s2 and s3 of n2 and n3: cos(k.r) = ccc - s2 ssc - s3 scs - s2 s3 css, sin(k.r) = scc + s2 csc +
// s3 ccs - s2 s3 sss. The entries hold ccc, ccs, csc, css, scc, scs, ssc, sss.
template <typename Real>
typename EwaldSum<Real>::Factors EwaldSum<Real>::structure_factors(std::size_t entry) const {
    const double *p = sums_[entry].values;
    Factors factors{{p[0], -p[5], -p[6], -p[3]}, {p[4], p[1], p[2], -p[7]}};
    combine_signs(factors.cosines);
    combine_signs(factors.sines);
    return factors;
}

// The reverse: coefficients of the eight products in the sum of cosine cos(k.r) + sine sin(k.r).
template <typename Real>
void EwaldSum<Real>::set_coefficients(std::size_t entry, const Factors &factors) {
    Factors f = factors;
    combine_signs(f.cosines);
    combine_signs(f.sines);
    coefficients_[entry] = {
        {f.cosines[0], f.sines[1], f.sines[2], -f.cosines[3], f.sines[0], -f.cosines[1], -f.cosines[2], -f.sines[3]}};
}

template <typename Real>
const Real *EwaldSum<Real>::coefficients_for_kernels(const Worker &worker) {
    if constexpr (sizeof(Real) == sizeof(double)) {
        return coefficients_[0].values;
    } else {
        for (std::size_t e = first_entry(worker.first_row); e < first_entry(worker.last_row); ++e)
            std::copy_n(coefficients_[e].values, 8, field_coefficients_[e].values);
        return field_coefficients_[0].values;
    }
}

template <typename Real>
void EwaldSum<Real>::energy_and_coefficients(Worker &worker) {
    double energy = 0.0;
    std::array<double, 7> virial{};
    for (std::size_t e = first_entry(worker.first_row); e < first_entry(worker.last_row); ++e) {
        const Waves &waves = waves_[e];
        Factors factors = structure_factors(e);
        for (int w = 0; w < 4; ++w) {
            double &cosine = factors.cosines[w], &sine = factors.sines[w];
            const double part = coulomb_constant * waves.weights[w] * (cosine * cosine + sine * sine);
            energy += part;
            add_virial_of_wave(part, part * waves.virial_scales[w], waves.k[w], virial);
            cosine *= waves.weights[w];
            sine *= waves.weights[w];
        }
        set_coefficients(e, factors);
    }
    worker.energy = energy;
    worker.virial = virial;
}

template <typename Real>
void EwaldSum<Real>::coefficients_of_component(const Worker &worker, int component) {
    for (std::size_t e = first_entry(worker.first_row); e < first_entry(worker.last_row); ++e) {
        const Waves &waves = waves_[e];
        Factors factors = structure_factors(e);
        for (int w = 0; w < 4; ++w) {
            // Where the weight is zero k may be too.
            const double weight =
                waves.weights[w] == 0.0 ? 0.0 : waves.weights[w] * virial_factor(waves.k[w], alpha_)[component];
            factors.cosines[w] *= weight;
            factors.sines[w] *= weight;
        }
        set_coefficients(e, factors);
    }
}

template <typename Real>
void EwaldSum<Real>::add_up_fields(Worker &worker, const Charges &charges, Kernel kernel) {
    const Real *coefficients = coefficients_for_kernels(worker);
    for (std::size_t block = 0; block < n_blocks_; ++block) {
        kernel(rows_.data() + worker.first_row, worker.last_row - worker.first_row,
               loaded_block(worker, block, charges), coefficients, worker.fields[block]);
    }
}

template <typename Real>
void EwaldSum<Real>::book_fields(const Charges &charges, const ReciprocalOutput &output) const {
    parallel_ranges(n_threads_, charges.n, [&](std::size_t begin, std::size_t end, int) {
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t block = i / ewald_block, a = i % ewald_block;
            double potential = 0.0, gradient[3] = {};
            for (const Worker &worker : workers_) {
                const EwaldFields<Real> &fields = worker.fields[block];
                potential += static_cast<double>(fields.potential[a]);
                for (int d = 0; d < 3; ++d)
                    gradient[d] += static_cast<double>(fields.gradient[d][a]);
            }
            potential *= coulomb_constant;
            if (output.site_energies) output.site_energies[i] += charges.values[i] * potential;
            if (output.potentials) output.potentials[i] += 2.0 * potential;
            if (!output.forces) continue;
            const double scale = -2.0 * coulomb_constant * charges.values[i];
            for (int d = 0; d < 3; ++d) {
                const auto &axis = geometry_.vectors[axes_[d]];
                for (int c = 0; c < 3; ++c)
                    output.forces[3 * i + c] += scale * gradient[d] * axis[c];
            }
        }
    });
}

template <typename Real>
void EwaldSum<Real>::site_virials(const Charges &charges, double *virials) {
    for (const auto &places : symmetric_components) {
        for_workers([&](Worker &worker) {
            coefficients_of_component(worker, places[0]);
            add_up_fields(worker, charges, kernels_.potentials);
        });
        parallel_ranges(n_threads_, charges.n, [&](std::size_t begin, std::size_t end, int) {
            for (std::size_t i = begin; i < end; ++i) {
                double potential = 0.0;
                for (const Worker &worker : workers_)
                    potential += static_cast<double>(worker.fields[i / ewald_block].potential[i % ewald_block]);
                const double part = coulomb_constant * charges.values[i] * potential;
                virials[9 * i + places[0]] += part;
                if (places[1] != places[0]) virials[9 * i + places[1]] += part;
            }
        });
    }
}

template <typename Real>
double EwaldSum<Real>::compute(int n, const double *positions, const double *values, const ReciprocalOutput &output) {
    if (rows_.empty()) return 0.0;
    const Charges charges{n, positions, values};
    resize_workers((n + ewald_block - 1) / ewald_block);
    const bool wants_fields = output.site_energies || output.potentials || output.forces;
    const auto finish = [&](Worker &worker) {
        energy_and_coefficients(worker);
        if (wants_fields) add_up_fields(worker, charges, kernels_.fields);
    };
    for_workers([&](Worker &worker) {
        structure_sums(worker, charges);
        if (!domain_sum_) finish(worker);
    });
    if (domain_sum_) {
        domain_sum_(static_cast<int>(8 * n_entries_), sums_[0].values);
        for_workers(finish);
    }
    double energy = 0.0;
    for (const Worker &worker : workers_) {
        energy += worker.energy;
        if (output.virial) add_virial_sums(1.0, worker.virial, output.virial);
    }
    if (wants_fields) book_fields(charges, output);
    if (output.atom_virials) site_virials(charges, output.atom_virials);
    return energy;
}

template <typename Real>
std::string EwaldSum<Real>::describe() const {
    std::ostringstream text;
    text << "Ewald sum, " << n_half_ << " vectors in half space, " << kernels_.name
         << (sizeof(Real) == sizeof(float) ? ", single precision, " : ", ") << n_threads_
         << (n_threads_ == 1 ? " thread" : " threads");
    return text.str();
}

}  // namespace

std::unique_ptr<ReciprocalSum> make_ewald(double alpha, int n_threads, DomainSum domain_sum, Precision precision) {
    check_reciprocal_arguments(alpha, n_threads);
    if (precision == Precision::single_precision) {
        return std::make_unique<EwaldSum<float>>(alpha, n_threads, std::move(domain_sum));
    }
    return std::make_unique<EwaldSum<double>>(alpha, n_threads, std::move(domain_sum));
}

}  // namespace qnep
