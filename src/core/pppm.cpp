// Particle mesh: B-splines, one forward and one inverse transform, forces as the exact gradient of the mesh energy.
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

constexpr int ghosts = 8;  // a stencil is written as one vector of up to 8 numbers

/// sin(pi x)/(pi x)
double cardinal_sine(double x) {
    return x == 0.0 ? 1.0 : std::sin(pi * x) / (pi * x);
}

// Fourier coefficient of the spline of mesh spacing 1 at frequency f (cycles), and what its images at f + m add up to:
// squares, and squares times (f + m)^2.
struct SplineSpectrum {
    double own, images, steep_images;
    SplineSpectrum(double frequency, int order): own(std::pow(cardinal_sine(frequency), 2 * order)) {
        images = steep_images = 0.0;
        for (int m = -4; m <= 4; ++m) {
            if (m == 0) continue;
            const double image = std::pow(cardinal_sine(frequency + m), 2 * order);
            images += image;
            steep_images += image * (frequency + m) * (frequency + m);
        }
    }
};

// Mean square error of the force on a unit charge among random unit charges of density 0.1/Å^3 that one axis with
// this spacing causes, (eV/Å)^2. First order in the images, integrated over all k of the Ewald sum (Hockney and
// Eastwood's functional for differentiation of the potential, J. Chem. Phys. 109, 7678 (1998), doi:10.1063/1.477414).
double axis_error_squared(double alpha, double spacing, int order) {
    constexpr double density = 0.1;
    constexpr int n_radial = 40, n_angular = 16;
    const double limit = 2.0 * pi * alpha;
    double integral = 0.0;
    for (int r = 0; r < n_radial; ++r) {
        const double k = (r + 0.5) * limit / n_radial;
        double shell = 0.0;
        for (int a = 0; a < n_angular; ++a) {
            const double k_axis = k * (a + 0.5) / n_angular, wavenumber = 2.0 * pi / spacing;
            const SplineSpectrum spectrum(k_axis / wavenumber, order);
            const double images = spectrum.images / spectrum.own, steep = spectrum.steep_images / spectrum.own;
            shell += steep * wavenumber * wavenumber + images * (2.0 * k * k - k_axis * k_axis);
        }
        integral += std::exp(-k * k / (2.0 * alpha * alpha)) / (k * k) * 2.0 * shell / n_angular * limit / n_radial;
    }
    return 4.0 * coulomb_constant * coulomb_constant * density * integral;
}

struct MeshChoice {
    int order;
    double spacing;  // Å
};

// Times on one core with AVX2, ns: stencils (and sorting) of an atom, transforms per mesh point.
double time_per_atom(int order) {
    return 100.0 + 6.0 * order * order;
}
constexpr double time_per_point = 20.0;

// The error of single axes leaves out the force of a charge on itself through the mesh, about as large as that of one
// neighbour.
constexpr double safety = 0.8;

// The cheapest pair of order and spacing: work per Å^3 of stencils at 0.1 atoms/Å^3 and of the transforms.
MeshChoice choose_mesh(double alpha, double accuracy) {
    MeshChoice best{spline_order_max, 0.0};
    double least_cost = 0.0;
    for (int order = 4; order <= spline_order_max; ++order) {
        double low = 0.02 / alpha, high = 0.5 / alpha;
        for (int step = 0; step < 30; ++step) {
            const double middle = 0.5 * (low + high);
            (std::sqrt(3.0 * axis_error_squared(alpha, middle, order)) < safety * accuracy ? low : high) = middle;
        }
        const double cost = 0.1 * time_per_atom(order) + time_per_point / (low * low * low);
        if (best.spacing == 0.0 || cost < least_cost) {
            best = {order, low};
            least_cost = cost;
        }
    }
    return best;
}

std::array<int, 3> largest_indices(const ReciprocalCell &geometry, double alpha) {
    std::array<int, 3> n;
    for (int d = 0; d < 3; ++d)
        n[d] = static_cast<int>(std::floor(alpha * geometry.lengths[d] + 1e-9));
    return n;
}

std::array<int, 3> mesh_sizes(const ReciprocalCell &geometry, double alpha, const MeshChoice &choice) {
    constexpr double limit = 2e9;
    const auto n_max = largest_indices(geometry, alpha);
    std::array<int, 3> n;
    double points = 1.0;
    for (int d = 0; d < 3; ++d) {
        // Frequencies go with the length of a lattice vector, the steepness of their images with the thickness.
        const double skewness = geometry.lengths[d] / geometry.thicknesses[d];
        const double wanted = std::ceil(geometry.lengths[d] / choice.spacing * std::pow(skewness, 1.0 / choice.order));
        points *= wanted;
        if (!(points < limit)) {
            throw InputError("a cell of " + std::to_string(geometry.volume) + " Å^3 needs a mesh of more than " +
                             std::to_string(static_cast<long>(limit)) + " points: less vacuum or a lower accuracy");
        }
        n[d] = next_fast_size(std::max({static_cast<int>(wanted), 2 * n_max[d] + 2, ghosts}));
    }
    return n;
}

template <typename Real>
class ParticleMesh final : public ReciprocalSum {
public:
    ParticleMesh(double alpha, double accuracy, int n_threads, DomainSum domain_sum):
        alpha_(alpha), n_threads_(n_threads), domain_sum_(std::move(domain_sum)),
        kernels_(electrostatics_kernels<Real>()), choice_(choose_mesh(alpha, accuracy)) {}

    void set_cell(const Cell &cell) override;
    double compute(int n, const double *positions, const double *charges, const ReciprocalOutput &output) override;
    std::string describe() const override;

private:
    // A vector of the sum and, unless it is zero, its negative.
    struct Wave {
        std::size_t place;        // in the filter
        std::array<double, 3> k;  // 1/Å
        double count;             // of vectors
        double virial_scale;      // see virial_factor
    };

    void set_mesh();
    void share_mesh();
    void set_influence();
    void sort_atoms(int n, const double *positions, const double *charges);
    void sort_planes(std::size_t begin, std::size_t end, const double *charges);
    void spread();
    template <class Use>
    void gather(const Use &use);
    void book_atom(std::size_t p, const ReciprocalOutput &output) const;
    double total_energy() const;
    void add_virial(double *virial) const;
    void add_atom_virials(double *virials);
    template <class Visit>
    void for_each_wave(const Visit &visit) const;

    double alpha_;
    int n_threads_;
    DomainSum domain_sum_;
    const ElectrostaticsKernels<Real> &kernels_;
    MeshChoice choice_;
    Cell cell_ = no_cell;
    ReciprocalCell geometry_{Cell{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}};
    MeshShape shape_;
    std::array<int, 3> n_max_{};                     // largest |index| of a wanted vector
    std::array<std::vector<double>, 3> correction_;  // [n_mesh], of the spline along each axis
    std::unique_ptr<MeshTransform<Real>> transform_;
    std::vector<Real> influence_, filter_, power_, mesh_;
    std::vector<double> shared_mesh_;       // as the domains sum it, if not in mesh_
    std::vector<Wave> waves_;               // of the sum, in the order of the threads
    std::vector<std::size_t> wave_starts_;  // [n_threads + 1]
    std::vector<std::size_t> plane_start_;  // [n_mesh[0] + 1], first sorted atom of each plane
    std::vector<int> order_, keys_;
    std::vector<std::size_t> bins_;
    std::vector<double> unsorted_;          // as scaled_
    std::vector<double> scaled_, charges_;  // sorted
    std::vector<std::array<Real, 4>> values_;
};

template <typename Real>
void ParticleMesh<Real>::set_cell(const Cell &cell) {
    if (cell == cell_) return;
    geometry_ = ReciprocalCell(cell);
    set_mesh();
    set_influence();
    cell_ = cell;
}

template <typename Real>
void ParticleMesh<Real>::set_mesh() {
    MeshShape shape;
    n_max_ = largest_indices(geometry_, alpha_);
    shape.n = mesh_sizes(geometry_, alpha_, choice_);
    shape.n_ghosts = ghosts;
    shape.n_kept = n_max_[2] + 1;
    shape.n_kept_middle = n_max_[1];
    shape.n_threads = n_threads_;
    if (transform_ && shape.n == shape_.n && shape.n_kept == shape_.n_kept &&
        shape.n_kept_middle == shape_.n_kept_middle)
        return;
    shape_ = shape;
    transform_ = kernels_.make_transform(shape_);
    mesh_.assign(shape_.size(), Real(0));
    influence_.assign(transform_->filter_size(), Real(0));
    for (int d = 0; d < 3; ++d) {
        correction_[d].resize(shape_.n[d]);
        for (int n = 0; n < shape_.n[d]; ++n) {
            const int index = 2 * n <= shape_.n[d] ? n : n - shape_.n[d];
            const SplineSpectrum spectrum(static_cast<double>(index) / shape_.n[d], choice_.order);
            const double sum = spectrum.own + spectrum.images;
            correction_[d][n] = spectrum.own / (sum * sum);
        }
    }
}

// visit(place in the filter, k, indices modulo the mesh, number of vectors ±k it stands for, thread); threads have the
// planes that they have in the transform.
template <typename Real>
template <class Visit>
void ParticleMesh<Real>::for_each_wave(const Visit &visit) const {
    const auto modulo = [](int n, int size) { return n < 0 ? n + size : n; };
    parallel_ranges(n_threads_, shape_.n_planes(), [&](std::size_t begin, std::size_t end, int thread) {
        for (int plane = static_cast<int>(begin); plane < static_cast<int>(end); ++plane) {
            const int k1 = shape_.middle_index(plane), n1 = plane <= n_max_[1] ? plane : plane - shape_.n_planes();
            for (int n2 = 0; n2 <= n_max_[2]; ++n2) {
                for (int n0 = -n_max_[0]; n0 <= n_max_[0]; ++n0) {
                    const int k0 = modulo(n0, shape_.n[0]);
                    visit(transform_->filter_index(k0, k1, n2), geometry_.vector(n0, n1, n2),
                          std::array<int, 3>{k0, k1, n2}, n2 == 0 ? 1.0 : 2.0, thread);
                }
            }
        }
    });
}

// Phi_i = sum over all k of G Re[S exp(i k.r)], hence half of the weight of the half space.
template <typename Real>
void ParticleMesh<Real>::set_influence() {
    std::vector<std::vector<Wave>> found(n_threads_);
    for_each_wave([&](std::size_t place, const std::array<double, 3> &k, const std::array<int, 3> &index, double count,
                      int thread) {
        const double k_squared = k[0] * k[0] + k[1] * k[1] + k[2] * k[2];
        const double weight = ewald_weight(k_squared, alpha_, geometry_.volume);
        influence_[place] = static_cast<Real>(0.5 * weight * correction_[0][index[0]] * correction_[1][index[1]] *
                                              correction_[2][index[2]]);
        if (weight != 0.0) found[thread].push_back({place, k, count, virial_scale(k_squared, alpha_)});
    });
    waves_.clear();
    wave_starts_ = {0};
    for (const auto &part : found) {
        waves_.insert(waves_.end(), part.begin(), part.end());
        wave_starts_.push_back(waves_.size());
    }
}

// Counting sort by mesh column (first two axes): neighbours in the list share cache lines, and a plane of the mesh
// belongs to a range of atoms. Each thread sorts the atoms of its planes, which it spreads afterwards.
template <typename Real>
void ParticleMesh<Real>::sort_atoms(int n, const double *positions, const double *charges) {
    keys_.resize(n);
    order_.resize(n);
    charges_.resize(n);
    values_.resize(n);
    scaled_.resize(3 * std::size_t(n));
    unsorted_.resize(3 * std::size_t(n));
    bins_.resize(std::size_t(shape_.n[0]) * shape_.n[1]);
    plane_start_.resize(shape_.n[0] + 1);
    parallel_ranges(n_threads_, n, [&](std::size_t begin, std::size_t end, int) {
        for (std::size_t i = begin; i < end; ++i) {
            const auto s = geometry_.fractional(positions + 3 * i);
            for (int d = 0; d < 3; ++d) {
                const double u = s[d] * shape_.n[d];
                unsorted_[3 * i + d] = u < shape_.n[d] ? u : 0.0;
            }
            keys_[i] = static_cast<int>(unsorted_[3 * i]) * shape_.n[1] + static_cast<int>(unsorted_[3 * i + 1]);
        }
    });
    parallel_ranges(n_threads_, shape_.n[0],
                    [&](std::size_t begin, std::size_t end, int) { sort_planes(begin, end, charges); });
    plane_start_.back() = n;
}

template <typename Real>
void ParticleMesh<Real>::sort_planes(std::size_t begin, std::size_t end, const double *charges) {
    const int first = static_cast<int>(begin) * shape_.n[1], last = static_cast<int>(end) * shape_.n[1];
    std::fill(bins_.begin() + first, bins_.begin() + last, 0);
    std::size_t place = 0;
    for (int key : keys_) {
        if (key < first) {
            ++place;
        } else if (key < last) {
            ++bins_[key];
        }
    }
    for (int bin = first; bin < last; ++bin) {
        if (bin % shape_.n[1] == 0) plane_start_[bin / shape_.n[1]] = place;
        const std::size_t count = bins_[bin];
        bins_[bin] = place;
        place += count;
    }
    for (std::size_t i = 0; i < keys_.size(); ++i) {
        if (keys_[i] < first || keys_[i] >= last) continue;
        const std::size_t to = bins_[keys_[i]]++;
        order_[to] = static_cast<int>(i);
        charges_[to] = charges[i];
        std::copy_n(&unsorted_[3 * i], 3, &scaled_[3 * to]);
    }
}

// Each thread owns a range of planes and lays down what its own and the following atoms put there. Every mesh point
// gets its terms in the order of the atoms, so the result is the same for any number of threads.
template <typename Real>
void ParticleMesh<Real>::spread() {
    const std::size_t n_planes = shape_.n[0], plane = shape_.size() / n_planes;
    parallel_ranges(n_threads_, n_planes, [&](std::size_t begin, std::size_t end, int) {
        std::fill(mesh_.begin() + begin * plane, mesh_.begin() + end * plane, Real(0));
        MeshAtoms atoms{scaled_.data(), charges_.data()};
        const auto lay_down = [&](std::size_t first_plane, std::size_t last_plane) {
            atoms.first = plane_start_[first_plane];
            atoms.last = plane_start_[last_plane];
            kernels_.spread(choice_.order, shape_, atoms, static_cast<int>(begin), static_cast<int>(end), mesh_.data());
        };
        // A stencil ends in the plane of its atom.
        const std::size_t last = end + choice_.order - 1;
        const std::size_t wrapped = last > n_planes ? last - n_planes : 0;
        if (wrapped > begin) {
            lay_down(0, n_planes);
        } else {
            lay_down(0, wrapped);
            lay_down(begin, std::min(last, n_planes));
        }
    });
}

// Values at the atoms; then use(p) for each sorted atom.
template <typename Real>
template <class Use>
void ParticleMesh<Real>::gather(const Use &use) {
    parallel_ranges(n_threads_, charges_.size(), [&](std::size_t begin, std::size_t end, int) {
        const MeshAtoms atoms{scaled_.data(), charges_.data(), begin, end};
        kernels_.gather(choice_.order, shape_, atoms, mesh_.data(), reinterpret_cast<Real(*)[4]>(values_.data()));
        for (std::size_t p = begin; p < end; ++p)
            use(p);
    });
}

template <typename Real>
void ParticleMesh<Real>::add_virial(double *virial) const {
    std::vector<std::array<double, 7>> parts(n_threads_, std::array<double, 7>{});
    // As the transform: each thread reads the power that it has written.
    parallel_ranges(n_threads_, shape_.n_planes(), [&](std::size_t, std::size_t, int thread) {
        std::array<double, 7> sum{};
        for (std::size_t w = wave_starts_[thread]; w < wave_starts_[thread + 1]; ++w) {
            const Wave &wave = waves_[w];
            const double power = wave.count * static_cast<double>(power_[wave.place]);
            add_virial_of_wave(power, power * wave.virial_scale, wave.k, sum);
        }
        parts[thread] = sum;
    });
    for (const auto &part : parts)
        add_virial_sums(coulomb_constant, part, virial);
}

template <typename Real>
void ParticleMesh<Real>::add_atom_virials(double *virials) {
    filter_.assign(influence_.size(), Real(0));
    for (const auto &places : symmetric_components) {
        for (const Wave &wave : waves_) {
            filter_[wave.place] = influence_[wave.place] * static_cast<Real>(virial_factor(wave.k, alpha_)[places[0]]);
        }
        transform_->apply(filter_.data(), nullptr);
        transform_->backward(mesh_.data());
        gather([&](std::size_t p) {
            double *virial = virials + 9 * std::size_t(order_[p]);
            const double part = coulomb_constant * charges_[p] * static_cast<double>(values_[p][0]);
            virial[places[0]] += part;
            if (places[1] != places[0]) virial[places[1]] += part;
        });
    }
}

// Energy, potential and force of one sorted atom.
template <typename Real>
void ParticleMesh<Real>::book_atom(std::size_t p, const ReciprocalOutput &output) const {
    const std::size_t i = order_[p];
    const double potential = coulomb_constant * static_cast<double>(values_[p][0]);
    if (output.site_energies) output.site_energies[i] += charges_[p] * potential;
    if (output.potentials) output.potentials[i] += 2.0 * potential;
    if (!output.forces) return;
    const double scale = -2.0 * coulomb_constant * charges_[p];
    for (int d = 0; d < 3; ++d) {
        const double slope = scale * shape_.n[d] * static_cast<double>(values_[p][d + 1]);
        for (int c = 0; c < 3; ++c)
            output.forces[3 * i + c] += slope * geometry_.inverse[d][c];
    }
}

// Four sums, so that no addition waits for the one before; the same for any number of threads.
template <typename Real>
double ParticleMesh<Real>::total_energy() const {
    double sums[4] = {};
    for (std::size_t p = 0; p < charges_.size(); ++p)
        sums[p % 4] += charges_[p] * static_cast<double>(values_[p][0]);
    return coulomb_constant * ((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <typename Real>
void ParticleMesh<Real>::share_mesh() {
    if constexpr (sizeof(Real) == sizeof(double)) {
        domain_sum_(static_cast<int>(mesh_.size()), mesh_.data());
    } else {
        shared_mesh_.assign(mesh_.begin(), mesh_.end());
        domain_sum_(static_cast<int>(shared_mesh_.size()), shared_mesh_.data());
        std::copy(shared_mesh_.begin(), shared_mesh_.end(), mesh_.begin());
    }
}

template <typename Real>
double ParticleMesh<Real>::compute(int n, const double *positions, const double *charges,
                                   const ReciprocalOutput &output) {
    sort_atoms(n, positions, charges);
    spread();
    if (domain_sum_) share_mesh();
    transform_->forward(mesh_.data());
    if (output.virial) power_.resize(influence_.size());
    transform_->apply(influence_.data(), output.virial ? power_.data() : nullptr);
    transform_->backward(mesh_.data());
    gather([&](std::size_t p) { book_atom(p, output); });
    double energy = total_energy();
    if (domain_sum_) domain_sum_(1, &energy);
    if (output.virial) add_virial(output.virial);
    if (output.atom_virials) add_atom_virials(output.atom_virials);
    return energy;
}

template <typename Real>
std::string ParticleMesh<Real>::describe() const {
    std::ostringstream text;
    text << "particle mesh, " << shape_.n[0] << " x " << shape_.n[1] << " x " << shape_.n[2] << " points, order "
         << choice_.order << ", " << kernels_.name << (sizeof(Real) == sizeof(float) ? ", single precision, " : ", ")
         << n_threads_ << (n_threads_ == 1 ? " thread" : " threads");
    return text.str();
}

}  // namespace

double mesh_time(double alpha, int n, const Cell &cell, double accuracy) {
    const MeshChoice choice = choose_mesh(alpha, accuracy);
    const auto sizes = mesh_sizes(ReciprocalCell(cell), alpha, choice);
    return n * time_per_atom(choice.order) + time_per_point * sizes[0] * sizes[1] * sizes[2];
}

std::unique_ptr<ReciprocalSum> make_pppm(double alpha, double accuracy, int n_threads, DomainSum domain_sum,
                                         Precision precision) {
    check_reciprocal_arguments(alpha, n_threads);
    if (!(accuracy >= 1e-9 && accuracy <= 0.1)) {
        throw InputError("accuracy of the particle mesh must be 1e-9 to 0.1 eV/Å, got " + std::to_string(accuracy));
    }
    if (precision == Precision::single_precision) {
        return std::make_unique<ParticleMesh<float>>(alpha, accuracy, n_threads, std::move(domain_sum));
    }
    return std::make_unique<ParticleMesh<double>>(alpha, accuracy, n_threads, std::move(domain_sum));
}

}  // namespace qnep
