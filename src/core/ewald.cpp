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

// With t_d = 2 pi times the fractional coordinates, cos and sin of n1 t1 ± n2 t2 ± n3 t3 are sums of the eight products
// A_c B_s of cosines and sines of the single axes. The structure factors of the four vectors (n1, ±n2, ±n3) follow from
// the charge-weighted sums of these products, and the potential is a sum of the products again, with other
// coefficients: 2 multiplications per atom and vector there, 4 here, forces included.
template <typename Real>
class EwaldSum final : public ReciprocalSum {
public:
    EwaldSum(double alpha, int n_threads, DomainSum domain_sum):
        alpha_(alpha), n_threads_(n_threads), domain_sum_(std::move(domain_sum)),
        kernels_(electrostatics_kernels<Real>()), workers_(n_threads) {}

    void set_cell(const Cell &cell) override;
    double compute(int n, const double *positions, const double *charges, const ReciprocalOutput &output) override;
    std::string describe() const override;

private:
    struct Worker {
        std::array<std::vector<Real>, 8> tables;
        alignas(64) double fractional[3][ewald_block];
        alignas(64) Real charges[ewald_block];
        EwaldPhases<Real> phases;
        EwaldFields<Real> fields;
        std::vector<double> sums;
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
    void resize_workers();
    void load_block(Worker &worker, int n, int first, const double *positions, const double *charges) const;
    void structure_sums(int n, const double *positions, const double *charges);
    void add_workers(std::size_t first_entry, std::size_t last_entry);
    double energy_and_coefficients(double *virial);
    void coefficients_of_component(int component);
    void site_fields(int n, const double *positions, const double *charges, const ReciprocalOutput &output);
    void site_virials(int n, const double *positions, const double *charges, double *virials);
    static void structure_factor(const Wave &wave, const double *sums, double &cosine, double &sine);
    void add_coefficients(const Wave &wave, double cosine, double sine);
    const Real *coefficients_for_kernels();

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
    std::size_t n_workers_ = 1;             // that have added up structure factors
    std::size_t n_entries_ = 0, n_half_ = 0;
    std::vector<double> coefficients_;
    std::vector<Real> field_coefficients_;  // the same, for the kernels
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
    resize_workers();
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

template <typename Real>
void EwaldSum<Real>::resize_workers() {
    for (Worker &worker : workers_) {
        for (int d = 0; d < 3; ++d) {
            const std::size_t size = std::size_t(std::max(n_max_[d], 1) + 1) * ewald_block;
            worker.phases.n_max[d] = n_max_[d];
            for (int part = 0; part < (d == 2 ? 4 : 2); ++part)
                worker.tables[2 * d + part].assign(size, Real(0));
            worker.phases.fractional[d] = worker.fractional[d];
            worker.phases.cosines[d] = worker.tables[2 * d].data();
            worker.phases.sines[d] = worker.tables[2 * d + 1].data();
        }
        worker.phases.weighted_cosines = worker.tables[6].data();
        worker.phases.weighted_sines = worker.tables[7].data();
        worker.phases.charges = worker.charges;
        worker.sums.resize(8 * n_entries_);
    }
    coefficients_.resize(8 * n_entries_);
}

template <typename Real>
void EwaldSum<Real>::load_block(Worker &worker, int n, int first, const double *positions,
                                const double *charges) const {
    constexpr double origin[3] = {0.0, 0.0, 0.0};
    for (int a = 0; a < ewald_block; ++a) {
        const bool exists = first + a < n;
        worker.charges[a] = exists ? static_cast<Real>(charges[first + a]) : Real(0);
        const auto s = geometry_.fractional(exists ? positions + 3 * std::size_t(first + a) : origin);
        for (int d = 0; d < 3; ++d)
            worker.fractional[d][a] = s[axes_[d]];
    }
    kernels_.phase_powers(worker.phases);
}

template <typename Real>
void EwaldSum<Real>::structure_sums(int n, const double *positions, const double *charges) {
    const std::size_t n_blocks = (n + ewald_block - 1) / ewald_block;
    parallel_ranges(n_threads_, n_blocks, [&](std::size_t begin, std::size_t end, int thread) {
        Worker &worker = workers_[thread];
        std::fill(worker.sums.begin(), worker.sums.end(), 0.0);
        for (std::size_t block = begin; block < end; ++block) {
            load_block(worker, n, static_cast<int>(block) * ewald_block, positions, charges);
            kernels_.structure_sums(rows_.data(), rows_.size(), worker.phases, worker.sums.data());
        }
    });
    n_workers_ = std::min<std::size_t>(n_threads_, n_blocks);
    if (!domain_sum_) return;
    add_workers(0, n_entries_);
    domain_sum_(static_cast<int>(8 * n_entries_), workers_[0].sums.data());
}

// Sums of all threads in those of the first one.
template <typename Real>
void EwaldSum<Real>::add_workers(std::size_t first_entry, std::size_t last_entry) {
    double *total = workers_[0].sums.data();
    for (std::size_t w = 1; w < n_workers_; ++w) {
        for (std::size_t e = 8 * first_entry; e < 8 * last_entry; ++e)
            total[e] += workers_[w].sums[e];
    }
}

// Sums of q cos(k.r) and q sin(k.r).
template <typename Real>
void EwaldSum<Real>::structure_factor(const Wave &wave, const double *sums, double &cosine, double &sine) {
    const double *p = sums + 8 * wave.entry;  // ccc, ccs, csc, css, scc, scs, ssc, sss
    const double s2 = wave.sign2, s3 = wave.sign3;
    cosine = p[0] - s2 * p[6] - s3 * p[5] - s2 * s3 * p[3];
    sine = p[4] + s2 * p[2] + s3 * p[1] - s2 * s3 * p[7];
}

// The reverse: coefficients of the eight products in cosine * cos(k.r) + sine * sin(k.r).
template <typename Real>
void EwaldSum<Real>::add_coefficients(const Wave &wave, double cosine, double sine) {
    double *p = coefficients_.data() + 8 * wave.entry;
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
const Real *EwaldSum<Real>::coefficients_for_kernels() {
    if constexpr (sizeof(Real) == sizeof(double)) {
        return coefficients_.data();
    } else {
        field_coefficients_.assign(coefficients_.begin(), coefficients_.end());
        return field_coefficients_.data();
    }
}

template <typename Real>
double EwaldSum<Real>::energy_and_coefficients(double *virial) {
    struct Sums {
        double energy = 0.0;
        std::array<double, 7> virial{};
    };
    std::vector<Sums> parts(n_threads_);
    parallel_ranges(n_threads_, rows_.size(), [&](std::size_t begin, std::size_t end, int thread) {
        Sums sum;
        for (std::size_t r = begin; r < end; ++r) {
            const std::size_t first = rows_[r].offset, last = first + rows_[r].last - rows_[r].first;
            if (!domain_sum_) add_workers(first, last);
            std::fill(coefficients_.begin() + 8 * first, coefficients_.begin() + 8 * last, 0.0);
            for (std::size_t w = first_waves_[r]; w < first_waves_[r + 1]; ++w) {
                const Wave &wave = waves_[w];
                double cosine, sine;
                structure_factor(wave, workers_[0].sums.data(), cosine, sine);
                const double part = coulomb_constant * wave.weight * (cosine * cosine + sine * sine);
                sum.energy += part;
                add_virial_of_wave(part, part * wave.virial_scale, wave.k, sum.virial);
                add_coefficients(wave, wave.weight * cosine, wave.weight * sine);
            }
        }
        parts[thread] = sum;
    });
    double energy = 0.0;
    for (const Sums &part : parts) {
        energy += part.energy;
        if (virial) add_virial_sums(1.0, part.virial, virial);
    }
    return energy;
}

template <typename Real>
void EwaldSum<Real>::coefficients_of_component(int component) {
    std::fill(coefficients_.begin(), coefficients_.end(), 0.0);
    for (const Wave &wave : waves_) {
        double cosine, sine;
        structure_factor(wave, workers_[0].sums.data(), cosine, sine);
        const double weight = wave.weight * virial_factor(wave.k, alpha_)[component];
        add_coefficients(wave, weight * cosine, weight * sine);
    }
}

template <typename Real>
void EwaldSum<Real>::site_fields(int n, const double *positions, const double *charges,
                                 const ReciprocalOutput &output) {
    const std::size_t n_blocks = (n + ewald_block - 1) / ewald_block;
    const Real *coefficients = coefficients_for_kernels();
    parallel_ranges(n_threads_, n_blocks, [&](std::size_t begin, std::size_t end, int thread) {
        Worker &worker = workers_[thread];
        for (std::size_t block = begin; block < end; ++block) {
            const int first = static_cast<int>(block) * ewald_block;
            load_block(worker, n, first, positions, charges);
            kernels_.fields(rows_.data(), rows_.size(), worker.phases, coefficients, worker.fields);
            for (int a = 0; a < ewald_block && first + a < n; ++a) {
                const std::size_t i = first + a;
                const double potential = coulomb_constant * static_cast<double>(worker.fields.potential[a]);
                if (output.site_energies) output.site_energies[i] += charges[i] * potential;
                if (output.potentials) output.potentials[i] += 2.0 * potential;
                if (!output.forces) continue;
                const double scale = -2.0 * coulomb_constant * charges[i];
                for (int d = 0; d < 3; ++d) {
                    const auto &axis = geometry_.vectors[axes_[d]];
                    for (int c = 0; c < 3; ++c)
                        output.forces[3 * i + c] += scale * static_cast<double>(worker.fields.gradient[d][a]) * axis[c];
                }
            }
        }
    });
}

template <typename Real>
void EwaldSum<Real>::site_virials(int n, const double *positions, const double *charges, double *virials) {
    const std::size_t n_blocks = (n + ewald_block - 1) / ewald_block;
    for (const auto &places : symmetric_components) {
        coefficients_of_component(places[0]);
        const Real *coefficients = coefficients_for_kernels();
        parallel_ranges(n_threads_, n_blocks, [&](std::size_t begin, std::size_t end, int thread) {
            Worker &worker = workers_[thread];
            for (std::size_t block = begin; block < end; ++block) {
                const int first = static_cast<int>(block) * ewald_block;
                load_block(worker, n, first, positions, charges);
                kernels_.potentials(rows_.data(), rows_.size(), worker.phases, coefficients, worker.fields);
                for (int a = 0; a < ewald_block && first + a < n; ++a) {
                    const std::size_t i = first + a;
                    const double part = coulomb_constant * charges[i] * static_cast<double>(worker.fields.potential[a]);
                    virials[9 * i + places[0]] += part;
                    if (places[1] != places[0]) virials[9 * i + places[1]] += part;
                }
            }
        });
    }
}

template <typename Real>
double EwaldSum<Real>::compute(int n, const double *positions, const double *charges, const ReciprocalOutput &output) {
    if (rows_.empty()) return 0.0;
    structure_sums(n, positions, charges);
    const double energy = energy_and_coefficients(output.virial);
    if (output.site_energies || output.potentials || output.forces) site_fields(n, positions, charges, output);
    if (output.atom_virials) site_virials(n, positions, charges, output.atom_virials);
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
