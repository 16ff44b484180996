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

constexpr double largest_number_of_vectors = 1e7;  // about 1 GB
constexpr std::size_t largest_store = 1 << 19;     // bytes of phases that are kept between the two sums

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
        EwaldPhases<Real> phases;
    };
    // A thread: its rows of vectors, for all atoms. Structure factors and coefficients are then nobody else's, and
    // only the fields at the atoms are summed over threads.
    struct alignas(128) Worker {
        std::size_t first_row = 0, last_row = 0;
        std::vector<Block> blocks;              // of all atoms if they are few, else one for all to come
        std::vector<EwaldFields<Real>> fields;  // [n_blocks], of these rows
        double energy = 0.0;
        std::array<double, 7> virial{};
    };
    struct Charges {
        int n;
        const double *positions, *values;
    };
    // A vector of the sum: entry of the table, the signs of n2 and n3, k, and G times the weight of its multiplicity.
    struct Wave {
        std::size_t entry;
        double sign2, sign3;
        std::array<double, 3> k;
        double weight;
        double virial_scale;
    };

    void add_row(int n1, int n2);
    void share_rows();
    void resize_workers(std::size_t n_blocks);
    template <class Body>
    void for_workers(const Body &body);
    std::size_t phase_rows() const;
    Block &load_block(Worker &worker, std::size_t block, const Charges &charges) const;
    const Block &loaded_block(Worker &worker, std::size_t block, const Charges &charges) const;
    void structure_sums(Worker &worker, const Charges &charges);
    void energy_and_coefficients(Worker &worker);
    void coefficients_of_component(const Worker &worker, int component);
    void add_up_fields(Worker &worker, const Charges &charges, Kernel kernel);
    void book_fields(const Charges &charges, const ReciprocalOutput &output) const;
    void site_virials(const Charges &charges, double *virials);
    void clear(std::vector<Entry> &entries, const Worker &worker) const;
    std::size_t first_entry(std::size_t row) const { return row < rows_.size() ? rows_[row].offset : n_entries_; }
    void structure_factor(const Wave &wave, double &cosine, double &sine) const;
    void add_coefficients(const Wave &wave, double cosine, double sine);
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
    std::vector<Wave> waves_;
    std::vector<std::size_t> first_waves_;  // of each row; one more
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
    const double n_expected = 2.0 / 3.0 * pi * alpha_ * alpha_ * alpha_ * geometry_.volume;
    if (n_expected > largest_number_of_vectors) {
        throw InputError("a cell of " + std::to_string(geometry_.volume) +
                         " Å^3 has too many reciprocal vectors for an Ewald sum: use the particle mesh");
    }
    axes_ = {0, 1, 2};
    std::stable_sort(axes_.begin(), axes_.end(),
                     [&](int a, int b) { return geometry_.lengths[a] < geometry_.lengths[b]; });
    for (int d = 0; d < 3; ++d)
        n_max_[d] = static_cast<int>(std::floor(alpha_ * geometry_.lengths[axes_[d]] + 1e-9));
    rows_.clear();
    waves_.clear();
    first_waves_ = {0};
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
    const std::size_t first_wave = waves_.size();
    for (int n3 = 0; n3 <= n_max_[2]; ++n3) {
        const double multiplicity = (n1 ? 1.0 : 0.5) * (n2 ? 1.0 : 0.5) * (n3 ? 1.0 : 0.5);
        for (int sign2 : {1, -1}) {
            for (int sign3 : {1, -1}) {
                std::array<int, 3> index{};
                index[axes_[0]] = n1;
                index[axes_[1]] = sign2 * n2;
                index[axes_[2]] = sign3 * n3;
                const auto k = geometry_.vector(index[0], index[1], index[2]);
                const double k_squared = k[0] * k[0] + k[1] * k[1] + k[2] * k[2];
                const double weight = ewald_weight(k_squared, alpha_, geometry_.volume);
                if (weight == 0.0) continue;
                row.first = std::min(row.first, n3);
                row.last = n3 + 1;
                waves_.push_back({static_cast<std::size_t>(n3), double(sign2), double(sign3), k, multiplicity * weight,
                                  virial_scale(k_squared, alpha_)});
                const bool repeated = (n1 == 0 && sign2 < 0) || (n2 == 0 && sign2 < 0) || (n3 == 0 && sign3 < 0) ||
                                      (n1 == 0 && n2 == 0 && sign3 < 0);
                if (!repeated) ++n_half_;
            }
        }
    }
    if (row.last == 0) return;
    for (std::size_t w = first_wave; w < waves_.size(); ++w)
        waves_[w].entry += row.offset - row.first;
    n_entries_ += row.last - row.first;
    rows_.push_back(row);
    first_waves_.push_back(waves_.size());
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
typename EwaldSum<Real>::Block &EwaldSum<Real>::load_block(Worker &worker, std::size_t index,
                                                           const Charges &charges) const {
    constexpr double origin[3] = {0.0, 0.0, 0.0};
    Block &block = worker.blocks[index % n_stored_blocks_];
    PhaseRow *rows = block.tables.data();
    const auto next_table = [&](int axis) {
        Real *table = rows->values;
        rows += std::max(n_max_[axis], 1) + 1;
        return table;
    };
    for (int d = 0; d < 3; ++d) {
        block.phases.n_max[d] = n_max_[d];
        block.phases.fractional[d] = block.fractional[d];
        block.phases.cosines[d] = next_table(d);
        block.phases.sines[d] = next_table(d);
    }
    block.phases.weighted_cosines = next_table(2);
    block.phases.weighted_sines = next_table(2);
    block.phases.charges = block.charges;
    const std::size_t first = index * ewald_block;
    for (int a = 0; a < ewald_block; ++a) {
        const bool exists = first + a < static_cast<std::size_t>(charges.n);
        block.charges[a] = exists ? static_cast<Real>(charges.values[first + a]) : Real(0);
        const auto s = geometry_.fractional(exists ? charges.positions + 3 * (first + a) : origin);
        for (int d = 0; d < 3; ++d)
            block.fractional[d][a] = s[axes_[d]];
    }
    kernels_.phase_powers(block.phases);
    return block;
}

// A block that structure_sums has loaded, if it could be kept.
template <typename Real>
const typename EwaldSum<Real>::Block &EwaldSum<Real>::loaded_block(Worker &worker, std::size_t index,
                                                                   const Charges &charges) const {
    return n_stored_blocks_ == n_blocks_ ? worker.blocks[index] : load_block(worker, index, charges);
}

template <typename Real>
void EwaldSum<Real>::clear(std::vector<Entry> &entries, const Worker &worker) const {
    std::fill(entries.begin() + first_entry(worker.first_row), entries.begin() + first_entry(worker.last_row), Entry{});
}

template <typename Real>
void EwaldSum<Real>::structure_sums(Worker &worker, const Charges &charges) {
    clear(sums_, worker);
    for (std::size_t block = 0; block < n_blocks_; ++block) {
        const EwaldPhases<Real> &phases = load_block(worker, block, charges).phases;
        kernels_.structure_sums(rows_.data() + worker.first_row, worker.last_row - worker.first_row, phases,
                                sums_[0].values);
    }
}

// Sums of q cos(k.r) and q sin(k.r).
template <typename Real>
void EwaldSum<Real>::structure_factor(const Wave &wave, double &cosine, double &sine) const {
    const double *p = sums_[wave.entry].values;  // ccc, ccs, csc, css, scc, scs, ssc, sss
    const double s2 = wave.sign2, s3 = wave.sign3;
    cosine = p[0] - s2 * p[6] - s3 * p[5] - s2 * s3 * p[3];
    sine = p[4] + s2 * p[2] + s3 * p[1] - s2 * s3 * p[7];
}

// The reverse: coefficients of the eight products in cosine * cos(k.r) + sine * sin(k.r).
template <typename Real>
void EwaldSum<Real>::add_coefficients(const Wave &wave, double cosine, double sine) {
    double *p = coefficients_[wave.entry].values;
    const double s2 = wave.sign2, s3 = wave.sign3;
    p[0] += cosine;
    p[6] -= s2 * cosine;
    p[5] -= s3 * cosine;
    p[3] -= s2 * s3 * cosine;
    p[4] += sine;
    p[2] += s2 * sine;
    p[1] += s3 * sine;
    p[7] -= s2 * s3 * sine;
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
    clear(coefficients_, worker);
    for (std::size_t w = first_waves_[worker.first_row]; w < first_waves_[worker.last_row]; ++w) {
        const Wave &wave = waves_[w];
        double cosine, sine;
        structure_factor(wave, cosine, sine);
        const double part = coulomb_constant * wave.weight * (cosine * cosine + sine * sine);
        energy += part;
        add_virial_of_wave(part, part * wave.virial_scale, wave.k, virial);
        add_coefficients(wave, wave.weight * cosine, wave.weight * sine);
    }
    worker.energy = energy;
    worker.virial = virial;
}

template <typename Real>
void EwaldSum<Real>::coefficients_of_component(const Worker &worker, int component) {
    clear(coefficients_, worker);
    for (std::size_t w = first_waves_[worker.first_row]; w < first_waves_[worker.last_row]; ++w) {
        const Wave &wave = waves_[w];
        double cosine, sine;
        structure_factor(wave, cosine, sine);
        const double weight = wave.weight * virial_factor(wave.k, alpha_)[component];
        add_coefficients(wave, weight * cosine, weight * sine);
    }
}

template <typename Real>
void EwaldSum<Real>::add_up_fields(Worker &worker, const Charges &charges, Kernel kernel) {
    const Real *coefficients = coefficients_for_kernels(worker);
    for (std::size_t block = 0; block < n_blocks_; ++block) {
        kernel(rows_.data() + worker.first_row, worker.last_row - worker.first_row,
               loaded_block(worker, block, charges).phases, coefficients, worker.fields[block]);
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
